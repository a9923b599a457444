"""Releases as processes: brought up on a leased port until they serve, and taken down again."""

from __future__ import annotations

import contextlib
import os
import time
from contextlib import ExitStack
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import Final

from deployer import causes, faults, health, ports
from deployer.diagnoses import Diagnoses
from deployer.disks import telling_when_full
from deployer.environments.builds import site_packages
from deployer.errors import (
    DeployerError,
    NoFreePortError,
    StartError,
    StopError,
)
from deployer.event_kinds import EventKind
from deployer.identities import Identities
from deployer.journals import NOBODY, Watcher
from deployer.launches import (
    Place,
    find_obstacle,
    health_check_of,
    launch_policy,
    live_place,
    manifest_of,
    read_manifest,
    rehearsal_place,
)
from deployer.limits.allowances import Allowance
from deployer.model import Answer, HealthCheck, Process, Release, RestartPolicy, Run, State
from deployer.parts import Parts
from deployer.proofs import Proofs
from deployer.run_logs import RunLog
from deployer.sockets import PortTakenError, Sockets
from deployer.trees import delete_tree

_PORT_TRIES: Final = 5
_LEASE_TRIES: Final = 100
_AFTER_KILL_SECONDS: Final = 5.0
_SPAWN_SECONDS: Final = 10.0


class Runs:
    """Brings releases up and takes them down; knows nothing of which one is current.

    Attributes:
        diagnoses: Say why one died, or does not count as healthy.
    """

    def __init__(self, parts: Parts) -> None:
        """Work with the parts of one server."""
        self._parts = parts
        self._state = parts.state
        self._settings = parts.settings
        self._store = parts.store
        self._supervisord = parts.supervisord
        self._processes = parts.processes
        self._readings = parts.readings
        self._secrets = parts.secrets
        self._sockets = Sockets(parts)
        self._identities = Identities(parts)
        self.diagnoses = Diagnoses(parts, self._sockets)
        self._proofs = Proofs(parts, self._sockets, self.diagnoses)

    def bring_up(
        self,
        release: Release,
        *,
        watcher: Watcher = NOBODY,
        avoid: frozenset[int] = frozenset(),
    ) -> Run:
        """Start a release where its agent serves, and wait until it is healthy.

        While it proves itself supervisord does not restart it: a death is an answer. When it fails,
        its process is gone and its port free again; its program stays, stopped, with its log.

        Args:
            release: An installed release; a process of its own that lives is stopped first.
            watcher: Sees the steps, and may cancel.
            avoid: Ports not to take.

        Raises:
            StartError: It died, never bound its port, or was not healthy in time; with the cause in
                words and the last lines of its log.
            NoFreePortError: Every port is taken.
            SecretUnavailableError: It refers to a secret that it cannot be given.
            DeploymentCanceledError: The watcher said so.
        """
        agent = self._store.agents.get(release.agent)
        place = live_place(self._state, self._settings, release, former_port=agent.port)
        return self._bring_up(release, place, watcher, set(avoid))

    def rehearse(self, release: Release, watcher: Watcher) -> None:
        """Let a release prove itself on a port that no client knows, then take it down again.

        Raises:
            StartError: It failed; whatever serves was not touched.
            NoFreePortError: Every port for rehearsals is taken.
            DeploymentCanceledError: The watcher said so.
        """
        place = rehearsal_place(self._state, self._settings, release)
        try:
            run = self._bring_up(release, place, watcher, set())
            self.soak(run, watcher)
        finally:
            self.take_down(release)
            delete_tree(self._state.rehearsal(release.agent, release.number))
            faults.reach("runs.rehearse")

    def soak(self, run: Run, watcher: Watcher) -> None:
        """Watch a release for as long as its manifest wants it healthy before it counts.

        Raises:
            StartError: It died or gave a bad answer.
            DeploymentCanceledError: The watcher said so.
        """
        with self._open_log(run.release) as log:
            self._proofs.soak(run, log, watcher)

    def require_logs(self, agent: str) -> None:
        """Make sure that what an agent, or its installer, writes has a place.

        Raises:
            StartError: The log directory is gone.
        """
        gone = causes.explain_missing_logs(self._state.logs)
        if gone is not None:
            raise StartError(f"cannot start {agent}: {gone.text}", cause=gone.short, hint=gone.hint)

    def is_up(self, release: Release) -> bool:
        """Tell whether a release's process lives and nobody is stopping it."""
        process = self._processes.get(release.program)
        return process is not None and process.state in {State.STARTING, State.RUNNING}

    def is_serving(self, release: Release) -> bool:
        """Tell whether a release is up or, after a death, will be again by its restart policy."""
        process = self._processes.get(release.program)
        return self.is_up(release) or (process is not None and process.next_try_at is not None)

    def is_known(self, release: Release) -> bool:
        """Tell whether supervisord, or its next start, knows a program of this release."""
        return self._processes.get(release.program) is not None or self._parts.programs.is_written(
            release.program
        )

    def take_down(self, release: Release, *, for_successor: bool = False) -> None:
        """Stop a release within its stop time, after that by SIGKILL, and free its port.

        Args:
            release: What is to end.
            for_successor: Another process is to accept from its socket soon, if it had one held on
                the port that clients know; else that is closed, and clients are refused.

        Raises:
            StopError: Its process lives on all the same.
        """
        program = release.program
        # What our table says is up is stopped; if it says down, supervisord is asked before that is
        # believed.
        if not (
            _is_down(self._processes.get(program)) and _is_down(self._processes.look_up(program))
        ):
            stop_seconds = manifest_of(release).deployment.stop_seconds
            self._supervisord.stop(program, for_successor=for_successor)
            if not self._processes.wait(
                program, _is_down, timeout_seconds=stop_seconds + _AFTER_KILL_SECONDS
            ):
                self.kill(release)
        lease = self._store.leases.of_program(program)
        if lease is not None and not (for_successor and lease.port == self._known_port(release)):
            self._sockets.let_go(lease.port)
        self._store.leases.free(program)
        self._readings.forget(program)
        self._identities.end_escaped(release.agent)

    def let_go(self, release: Release) -> None:
        """Refuse clients on the port that they know, unless a process of the agent lives."""
        with contextlib.suppress(DeployerError):  # supervisord does it by itself, some seconds on
            self._sockets.let_go(self._known_port(release))

    def kill(self, release: Release) -> None:
        """End a release's process group by SIGKILL; it stays down.

        Raises:
            StopError: Its process lives on all the same.
        """
        self._supervisord.kill(release.program)
        if not self._processes.wait(release.program, _is_down, timeout_seconds=_AFTER_KILL_SECONDS):
            raise StopError(
                f"cannot stop {release.agent}: its process outlives SIGKILL, so it hangs in the"
                " kernel",
                cause="process outlives SIGKILL",
                hint="look at its state with `ps -o pid,stat,wchan`; a dead disk or network mount"
                " is the usual reason",
            )
        self._identities.end_escaped(release.agent)

    def end(self, release: Release, pid: int) -> None:
        """End a process as if it had died by itself, so that its restart policy applies.

        Its group gets SIGTERM, and SIGKILL when its stop time is over.

        Args:
            release: What runs.
            pid: Its main process.
        """
        stop_seconds = manifest_of(release).deployment.stop_seconds
        for number, seconds in ((SIGTERM, stop_seconds), (SIGKILL, _AFTER_KILL_SECONDS)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, number)
            if self._processes.wait(
                release.program, lambda one: one is None or one.pid != pid, timeout_seconds=seconds
            ):
                return

    def discard(self, release: Release) -> None:
        """Take a release down and remove its program from supervisord and from conf.d."""
        if self.is_known(release):  # else that was done, mostly when the next one went live
            self.take_down(release)
            self._supervisord.remove(release.program)
            self._parts.programs.delete(release.program)
            self._processes.look_up(release.program)
        venv = self._state.venv(release.agent, release.number)
        for each in (venv.parent, venv):  # an environment that it shares is compiled on
            self._parts.compilations.end(each)

    def free_identity(self, agent: str) -> None:
        """Let others have the user of an agent of which nothing is left."""
        self._identities.free(agent)

    def tidy_identities(self) -> None:
        """Free users of agents that are gone, and end what escaped while no server looked."""
        self._identities.tidy()

    def find_obstacle(self, release: Release) -> str:
        """Read all of a release and say why it could not be brought up again; empty: it could."""
        return find_obstacle(self._parts, release, anew=True)

    def compile(self, release: Release) -> None:
        """Have a release that serves compiled in the background, for quicker starts to come."""
        python, environment = Path(release.python), self._parts.files.environment(release)
        code = self._state.code(release.agent, release.number)
        self._parts.compilations.begin(environment, python, site_packages(environment))
        self._parts.compilations.begin(code.parent, python, [code])

    def restart_policy(self, release: Release) -> RestartPolicy:
        """Say how a release is restarted: as its manifest says, else as the settings do."""
        manifest = read_manifest(release.manifest)
        return manifest.restart_policy(self._settings.defaults.restart_policy)

    def allowance(self, release: Release) -> Allowance:
        """Say what a release may use: as its manifest says, else as the settings do."""
        return self._parts.limiter.allow(manifest_of(release))

    def health_check(self, release: Release) -> HealthCheck:
        """Say how a release is asked: as its manifest says, else as the settings do."""
        return health_check_of(release, self._settings)

    def ask(self, release: Release, port: int) -> Answer:
        """Ask a release once whether it serves."""
        return health.check(self._settings.bind_address, port, self.health_check(release))

    def is_lost(self, port: int) -> bool:
        """Tell whether an agent that is down could not listen on a port of its own again."""
        return not ports.can_bind(port, host=self._settings.bind_address)

    def _bring_up(self, release: Release, place: Place, watcher: Watcher, avoid: set[int]) -> Run:
        self.take_down(release, for_successor=True)
        began = time.monotonic()
        held = self._sockets.held_port(release)
        if held is None:  # the release before may have had its socket held
            self.let_go(release)
        for _ in range(_PORT_TRIES):
            try:
                with ExitStack() as undo:
                    undo.callback(self.take_down, release, for_successor=True)
                    log = undo.enter_context(self._open_log(release))
                    with watcher.step("start") as note:
                        port = self._lease(release, place, avoid, held)
                        pid = self._start(release, place, port, log)
                        note.message = f"port {port}, pid {pid}{self._remark(release)}"
                    with watcher.step("health_check") as note:
                        run = Run(release, port, pid, began, is_gapless=port == held)
                        note.message = self._proofs.prove(run, log, watcher).detail
                    self._supervisord.follow(release.program, self.restart_policy(release))
                    undo.pop_all()
                    log.close()
                    return run
            except PortTakenError as error:
                avoid.add(port)
                taken = error
        raise taken

    def _open_log(self, release: Release) -> RunLog:
        return RunLog(
            self._state.stdout_log(release.program),
            self._state.stderr_log(release.program),
            redact=lambda lines: self._secrets.redact(release, lines),
        )

    def _known_port(self, release: Release) -> int | None:
        """Give the port that clients know a release's agent by."""
        agent = self._store.agents.find(release.agent)
        return None if agent is None else agent.port

    def _remark(self, release: Release) -> str:
        if not self._sockets.is_wanted_by(release):
            return ""
        if self._sockets.is_given_to(release):
            return ", with its socket inherited"
        return "; it binds its port itself, for this supervisord cannot hold a socket"

    def _lease(self, release: Release, place: Place, avoid: set[int], held: int | None) -> int:
        """Lease the first port of a place that is nobody's; held is the agent's own already."""
        self._store.leases.free(release.program)
        for _ in range(_LEASE_TRIES):
            port = ports.choose_port(
                place.ports,
                self._store.leases.ports() | avoid,
                preferred=place.wishes,
                is_free=lambda port: (
                    port == held or ports.can_bind(port, host=self._settings.bind_address)
                ),
            )
            if self._store.leases.add(port, release.agent, release.program):
                return port
        raise NoFreePortError("cannot lease a port: others were quicker every time; try again")

    def _start(self, release: Release, place: Place, port: int, log: RunLog) -> int:
        """Have supervisord start the release's program; return its pid."""
        program = release.program
        self.require_logs(release.agent)
        self._parts.verdicts.forget(program)
        self._parts.limiter.forget(program)
        host = self._sockets.hold(release, port)
        with telling_when_full(self._state.root):
            sandbox = self._identities.furnish(release, place)
            policy = launch_policy(
                self._parts, release, place, port, inherits_from=host, sandbox=sandbox
            )
            faults.reach("launches.launch_policy")
            self._parts.programs.write(policy, self.restart_policy(release))
        self._processes.receive(self._supervisord.start(program, RestartPolicy(enabled=False)))
        if not self._processes.wait(program, _has_begun, timeout_seconds=_SPAWN_SECONDS):
            raise StartError(
                f"cannot start {release.agent}: supervisord did not start its process within"
                f" {_SPAWN_SECONDS:.0f} s",
                cause="supervisord did not start the process",
            )
        process = self._processes.get(program)
        if process is None or process.pid is None:
            raise self._proofs.death(release, port, log, pid=None)
        if place.is_live:
            self._store.agents.set_isolation(release.agent, self._parts.isolation.level)
        where = "" if place.is_live else " to rehearse"
        self._store.events.add(
            EventKind.PROCESS_STARTED,
            release.agent,
            f"{release.agent} release {release.number} was started{where} on port {port},"
            f" pid {process.pid}",
        )
        for sentence in self.allowance(release).clamped:
            self._store.events.add(
                EventKind.AGENT_LIMIT_CLAMPED, release.agent, f"{release.agent}: {sentence}"
            )
        return process.pid


def _is_down(process: Process | None) -> bool:
    return process is None or not (process.state.is_alive or process.next_try_at is not None)


def _has_begun(process: Process | None) -> bool:
    return process is not None and process.state is not State.STOPPED

"""Releases as processes: brought up on a leased port until they serve, and taken down again."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from signal import SIGKILL, SIGTERM
from typing import Final, Self

from deployer import causes, health, ports
from deployer.causes import Cause
from deployer.errors import DeploymentCanceledError, NoFreePortError, StartError, StopError
from deployer.journals import StepMaker, unrecorded_step
from deployer.launch_policies import LaunchPolicy
from deployer.logs import Follower
from deployer.manifest import Manifest
from deployer.model import Answer, HealthCheck, Process, Release, RestartPolicy, State
from deployer.parts import Parts
from deployer.processes import is_running
from deployer.state_dir import StateDir
from deployer.store import now

EVIDENCE_LINES: Final = 50
_PORT_TRIES: Final = 5
_AFTER_KILL_SECONDS: Final = 5.0
_SPAWN_SECONDS: Final = 10.0
_SEARCH_PATH: Final = "/usr/local/bin:/usr/bin:/bin"


@dataclass(frozen=True, slots=True)
class Run:
    """A release that serves.

    Attributes:
        release: What runs.
        port: Where it listens.
        pid: Its main process.
        seconds: From the request to start it until its first good answer.
    """

    release: Release
    port: int
    pid: int
    seconds: float


class _PortTakenError(StartError):
    """Somebody else took the port between lease and bind: another one may do."""


class Runs:
    """Brings releases up and takes them down; knows nothing of which one is current."""

    def __init__(self, parts: Parts) -> None:
        """Work with the parts of one server."""
        self._state = parts.state
        self._settings = parts.settings
        self._store = parts.store
        self._programs = parts.programs
        self._supervisord = parts.supervisord
        self._processes = parts.processes
        self._readings = parts.readings

    def bring_up(
        self,
        release: Release,
        *,
        step: StepMaker = unrecorded_step,
        canceled: Callable[[], bool] = lambda: False,
    ) -> Run:
        """Start a release on a leased port and wait until it is healthy.

        While it proves itself supervisord does not restart it: a death is an answer. When it fails,
        its process is gone and its port free again; its program stays, stopped, with its log.

        Args:
            release: An installed release; a process of its own that lives is stopped first.
            step: Opens a step of a deployment around each part.
            canceled: Tells that nobody wants it any more.

        Raises:
            StartError: It died, never bound its port, or was not healthy in time; with the cause in
                words and the last lines of its log.
            NoFreePortError: Every port is taken.
            DeploymentCanceledError: canceled() said so.
        """
        began = time.monotonic()
        self.take_down(release)
        avoid: set[int] = set()
        while True:
            try:
                with ExitStack() as undo:
                    undo.callback(self.take_down, release)
                    log = undo.enter_context(RunLog(self._state, release.program))
                    with step("start") as note:
                        port = self._lease(release, avoid)
                        pid = self._start(release, port, log)
                        note.message = f"port {port}, pid {pid}"
                    with step("health_check") as note:
                        answer = self._prove(release, port, pid, log, canceled)
                        note.message = answer.detail
                    self._supervisord.apply(release.program, self.restart_policy(release))
                    undo.pop_all()
                    log.close()
                    return Run(release, port, pid, time.monotonic() - began)
            except _PortTakenError:
                avoid.add(port)
                if len(avoid) == _PORT_TRIES:
                    raise

    def is_up(self, release: Release) -> bool:
        """Tell whether a release's process lives and nobody is stopping it."""
        process = self._processes.get(release.program)
        return process is not None and process.state in {State.STARTING, State.RUNNING}

    def take_down(self, release: Release) -> None:
        """Stop a release within its stop time, after that by SIGKILL, and free its port.

        Raises:
            StopError: Its process lives on all the same.
        """
        program = release.program
        self._processes.refresh()
        if not _is_down(self._processes.get(program)):
            stop_seconds = _manifest(release).deployment.stop_seconds
            self._supervisord.stop(program)
            if not self._processes.wait(
                program, _is_down, timeout_seconds=stop_seconds + _AFTER_KILL_SECONDS
            ):
                self.kill(release)
        self._store.leases.free(program)
        self._readings.forget(program)

    def kill(self, release: Release) -> None:
        """End a release's process group by SIGKILL.

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

    def end(self, release: Release, pid: int) -> None:
        """End a process as if it had died by itself, so that its restart policy applies.

        Its group gets SIGTERM, and SIGKILL when its stop time is over.

        Args:
            release: What runs.
            pid: Its main process.
        """
        stop_seconds = _manifest(release).deployment.stop_seconds
        for number, seconds in ((SIGTERM, stop_seconds), (SIGKILL, _AFTER_KILL_SECONDS)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, number)
            if self._processes.wait(
                release.program, lambda one: one is None or one.pid != pid, timeout_seconds=seconds
            ):
                return

    def discard(self, release: Release) -> None:
        """Take a release down and remove its program from supervisord and from conf.d."""
        self.take_down(release)
        self._supervisord.remove(release.program)
        self._programs.delete(release.program)
        self._processes.refresh()

    def restart_policy(self, release: Release) -> RestartPolicy:
        """Say how a release is restarted: as its manifest says, else as the settings do."""
        return _manifest(release).restart_policy(self._settings.defaults.restart_policy)

    def health_check(self, release: Release) -> HealthCheck:
        """Say how a release is asked: as its manifest says, else as the settings do."""
        return _manifest(release).health_check(self._settings.defaults.health_check)

    def ask(self, release: Release, port: int) -> Answer:
        """Ask a release once whether it serves."""
        return health.check(self._settings.bind_address, port, self.health_check(release))

    def explain_death(self, release: Release, port: int, lines: list[str]) -> Cause:
        """Say why a release's process died, out of the last lines that it wrote."""
        process = self._processes.get(release.program)
        holder = ports.holder_of(port)
        return causes.explain_death(
            None if process is None else process.exit_code,
            None if process is None else process.signal,
            lines,
            (),
            port=port,
            holder=None if holder is None else str(holder),
            memory_limit=_manifest(release).resources.memory_limit,
        )

    def _lease(self, release: Release, avoid: set[int]) -> int:
        """Lease a port: the one the agent had, the one it would like, else the lowest free one."""
        agent = self._store.agents.get(release.agent)
        self._store.leases.free(release.program)
        wishes = (
            _manifest(release).deployment.port,
            self._settings.port_preferences.get(agent.name),
            agent.port,
        )
        for _ in self._settings.agent_ports:
            leased = {lease.port for lease in self._store.leases.all()}
            port = ports.choose_port(
                self._settings.agent_ports,
                leased | avoid,
                preferred=[wish for wish in wishes if wish],
                is_free=lambda port: ports.can_bind(port, host=self._settings.bind_address),
            )
            if self._store.leases.add(port, agent.name, release.program):
                self._store.agents.set_port(agent.name, port)
                return port
        raise NoFreePortError("cannot lease a port: others were quicker every time; try again")

    def _start(self, release: Release, port: int, log: RunLog) -> int:
        """Have supervisord start the release's program; return its pid."""
        program = release.program
        self._programs.write(self._policy(release, port), self.restart_policy(release))
        self._supervisord.apply(program, RestartPolicy(enabled=False))
        self._supervisord.start(program)
        self._processes.refresh()
        if not self._processes.wait(program, _has_begun, timeout_seconds=_SPAWN_SECONDS):
            raise StartError(
                f"cannot start {release.agent}: supervisord did not start its process within"
                f" {_SPAWN_SECONDS:.0f} s",
                cause="supervisord did not start the process",
            )
        process = self._processes.get(program)
        if process is None or process.pid is None:
            raise self._died(release, port, log)
        return process.pid

    def _prove(
        self, release: Release, port: int, pid: int, log: RunLog, canceled: Callable[[], bool]
    ) -> Answer:
        """Ask until the answer is good, and make sure that it was the release who gave it."""
        question = self.health_check(release)
        answer = health.wait_until_healthy(
            lambda: health.check(self._settings.bind_address, port, question),
            still_alive=lambda: not canceled() and self._lives(release.program, pid),
            deadline=time.monotonic() + question.start_seconds,
        )
        if canceled():
            raise DeploymentCanceledError(
                f"cannot go on starting {release.agent}: the deployment was canceled",
                cause="canceled",
            )
        self._processes.refresh()
        process = self._processes.get(release.program)
        if process is None or process.pid != pid or not process.state.is_alive:
            raise self._died(release, port, log)
        if not answer.healthy:
            raise self._unhealthy(release, port, answer, pid, log)
        if not ports.listens(pid, port) and (holder := ports.holder_of(port)) is not None:
            raise _PortTakenError(
                f"cannot start {release.agent}: port {port} is answered by {holder}, not by it",
                cause=f"port {port} is held by {holder}",
                evidence=log.read(),
            )
        self._readings.record(process, answer, checked_at=now())
        return answer

    def _lives(self, program: str, pid: int) -> bool:
        """Tell whether a process still lives, also where supervisord's word comes late or never."""
        process = self._processes.get(program)
        return process is not None and process.state.is_alive and is_running(pid)

    def _policy(self, release: Release, port: int) -> LaunchPolicy:
        manifest = _manifest(release)
        code = self._state.code(release.agent, release.number)
        venv = self._state.venv(release.agent, release.number)
        for directory in (
            self._state.agent_data(release.agent),
            self._state.agent_tmp(release.agent),
            self._state.agent_run(release.agent),
        ):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        data = str(self._state.agent_data(release.agent))
        return LaunchPolicy(
            program=release.program,
            executable=venv / "bin" / "python",
            arguments=_arguments(release.entry_point, port),
            directory=code,
            port=port,
            variables={
                "PATH": f"{venv / 'bin'}:{_SEARCH_PATH}",
                "VIRTUAL_ENV": str(venv),
                "LANG": "C.UTF-8",
                "PYTHONUNBUFFERED": "1",  # or what it prints reaches the log only when it ends
                "HOME": data,
                "TMPDIR": str(self._state.agent_tmp(release.agent)),
                "ATOLL_AGENT_NAME": release.agent,
                "ATOLL_AGENT_DATA_DIR": data,
                **manifest.env,
                "HOST": self._settings.bind_address,
                "ATOLL_DEPLOYER_STATE": str(self._state.root),  # the marker that a sweep looks for
            },
            stop_seconds=manifest.deployment.stop_seconds,
        )

    def _died(self, release: Release, port: int, log: RunLog) -> StartError:
        lines = log.read()
        cause = self.explain_death(release, port, lines)
        kind = _PortTakenError if cause.code == "address-in-use" else StartError
        return kind(
            f"cannot start {release.agent}: {cause.text}",
            cause=cause.short,
            hint=cause.hint,
            evidence=lines,
        )

    def _unhealthy(
        self, release: Release, port: int, answer: Answer, pid: int, log: RunLog
    ) -> StartError:
        cause = causes.explain_unhealthy(answer, listening=ports.listening_ports(pid), port=port)
        seconds = self.health_check(release).start_seconds
        return StartError(
            f"cannot start {release.agent}: not healthy within {seconds:g} s: {cause.text}",
            cause=cause.short,
            hint=cause.hint,
            evidence=log.read(),
        )


class RunLog:
    """What one run writes, from the moment it is opened: earlier runs' lines explain nothing."""

    def __init__(self, state: StateDir, program: str) -> None:
        """Begin at the end of the program's logs."""
        self._output = Follower(state.stdout_log(program))
        self._errors = Follower(state.stderr_log(program))

    def __enter__(self) -> Self:
        """Follow within a with statement."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the files."""
        self.close()

    def close(self) -> None:
        """Close the files; reading is over."""
        self._output.close()
        self._errors.close()

    def read(self) -> list[str]:
        """Give the last lines that were not read yet, at most 50, standard error last."""
        return [*self._output.read(), *self._errors.read()][-EVIDENCE_LINES:]


def _manifest(release: Release) -> Manifest:
    return Manifest.from_json(release.manifest)


def _arguments(entry_point: str, port: int) -> tuple[str, ...]:
    """Say what the release's Python is given, as the agent's author or ATOLL's runner expects."""
    kind, _, value = entry_point.partition(" ")
    if kind == "script":
        return (value,)
    if kind == "module":
        return ("-m", value)
    return ("-m", "atoll", "--server", "--port", str(port), "--agent", value)


def _is_down(process: Process | None) -> bool:
    return process is None or not (process.state.is_alive or process.next_try_at is not None)


def _has_begun(process: Process | None) -> bool:
    return process is not None and process.state is not State.STOPPED

"""Start, stop, restart, kill and remove an agent that is there, and tell how it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from deployer.errors import (
    DeployerError,
    NotInstalledError,
    ReleaseDamagedError,
    StartError,
)
from deployer.event_kinds import EventKind
from deployer.limits.footprints import Footprint
from deployer.model import Agent, Desired, PortLease, Release, ReleaseStatus
from deployer.parts import Parts
from deployer.runs import Runs
from deployer.statuses import AgentView
from deployer.store import now

_LOCK_SECONDS = 120.0

_Rows = tuple[tuple[Agent, ...], Mapping[str, Release], Mapping[str, PortLease]]
"""All agents, the current release of each, and the port lease of each program."""

_Look = tuple[tuple[int, ...], tuple[AgentView, ...]]
"""What had happened until a look, as counts, and what was seen."""


class Agents:
    """Acts on agents by name: one at a time for each, each written down as what is desired."""

    def __init__(self, parts: Parts, runs: Runs) -> None:
        """Work with the parts of one server."""
        self._store = parts.store
        self._files = parts.files
        self._runs = runs
        self._locks = parts.locks
        self._processes = parts.processes
        self._readings = parts.readings
        self._retries = parts.retries
        self._limiter = parts.limiter
        self._usages = parts.usages
        self._secrets = parts.secrets
        self._breaches = parts.breaches
        self._last_look: _Look = (), ()
        self._last_standings: _Look = (), ()
        self._last_rows: tuple[int, _Rows] = -1, ((), {}, {})

    def view(self, name: str) -> AgentView:
        """Tell everything that is known of one agent now.

        Raises:
            AgentUnknownError: There is none of this name.
        """
        agent = self._store.agents.get(name)
        release = self._store.releases.find(name, agent.current)
        lease = None if release is None else self._store.leases.of_program(release.program)
        return self._view(agent, release, lease)

    def footprint(self, view: AgentView) -> Footprint | None:
        """Tell what an agent may use and does use now; None before it has a release."""
        if view.release is None:
            return None
        return Footprint(
            allowance=self._runs.allowance(view.release),
            mechanisms=self._limiter.mechanisms,
            usage=self._usages.of(view.release.program) if view.is_alive else None,
            disk=self._breaches.scan_of(view.agent.name),
        )

    def views(self) -> tuple[AgentView, ...]:
        """Tell everything that is known of all agents now, by name.

        As long as nothing has changed it is the very same tuple, so whatever was made of it holds.
        """
        self._last_look = look = self._look(self._last_look, self._readings.generation)
        return look[1]

    def standings(self) -> tuple[AgentView, ...]:
        """Tell the same, but the times of readings may be old.

        As `views`, but health answers that change no status do not make it anew: most, many a
        second, change nothing but when they were given.
        """
        self._last_standings = look = self._look(self._last_standings, self._readings.turns)
        return look[1]

    def has_new_standings(self) -> bool:
        """Tell whether `standings` costs nothing, for nothing has happened since it was called."""
        return self._last_standings[0] == self._generations(self._readings.turns)

    def _look(self, last: _Look, readings: int) -> _Look:
        # Read before the rows: what changes meanwhile is then looked at anew by the next caller.
        generations = self._generations(readings)
        return last if last[0] == generations else (generations, self._look_at_all())

    def _generations(self, readings: int) -> tuple[int, ...]:
        return (
            self._store.generation,
            self._processes.generation,
            readings,
            self._retries.generation,
            self._breaches.generation,
        )

    def _look_at_all(self) -> tuple[AgentView, ...]:
        agents, releases, leases = self._rows()
        views = []
        for agent in agents:
            release = releases.get(agent.name)
            lease = None if release is None else leases.get(release.program)
            views.append(self._view(agent, release, lease))
        return tuple(views)

    def _view(self, agent: Agent, release: Release | None, lease: PortLease | None) -> AgentView:
        """Join what the store says of an agent with what is in memory."""
        process = None if release is None else self._processes.get(release.program)
        return AgentView(
            agent,
            release,
            lease,
            process,
            self._readings.of(process),
            self._retries.of(agent.name),
            self._breaches.of(agent.name),
        )

    def _rows(self) -> _Rows:
        """Read what the store knows; answers to health checks, many a second, change none of it."""
        generation = self._store.generation
        seen, rows = self._last_rows
        if generation != seen:
            rows = (
                tuple(self._store.agents.all()),
                self._store.releases.current(),
                {lease.program: lease for lease in self._store.leases.all()},
            )
            self._last_rows = generation, rows
        return rows

    def start(self, name: str) -> AgentView:
        """Start an agent and wait until it serves; one that serves stays as it is.

        Raises:
            AgentUnknownError: There is none of this name.
            NotInstalledError: It has no release yet.
            StartError: It did not come up. When its release had never served before, the one before
                it is current again.
        """
        self._release(name)
        with self._locks.hold(name, f"start {name}", timeout_seconds=_LOCK_SECONDS):
            release = self._release(name)
            self._store.agents.set_desired(name, Desired.RUNNING)
            if not self._runs.is_up(release):
                self._retries.forget(name)
                self._bring_up(release)
            return self.view(name)

    def bring_back(self, name: str) -> AgentView:
        """Start an agent that is desired to run and does not; nobody asked for it just now.

        Raises:
            StartError: It did not come up; the next try comes later than the one before.
            ReleaseDamagedError: It cannot come up; it is in quarantine now.
        """
        self._release(name)
        with self._locks.hold(name, f"bring {name} back", timeout_seconds=_LOCK_SECONDS):
            release = self._release(name)
            is_desired = self._store.agents.get(name).desired is Desired.RUNNING
            if is_desired and not self._runs.is_up(release):
                self._bring_up(release)
            return self.view(name)

    def stop_as_desired(self, name: str) -> None:
        """Stop an agent that is desired to be stopped and runs; nobody asked for it just now.

        Raises:
            AgentUnknownError: There is none of this name.
            StopError: Its process outlives SIGKILL.
        """
        with self._locks.hold(name, f"stop {name} as desired", timeout_seconds=_LOCK_SECONDS):
            agent = self._store.agents.get(name)
            if agent.desired is Desired.STOPPED and agent.is_readable:  # still
                self.stop(name)

    def leave_port(self, name: str) -> None:
        """Bring an agent up on another port if it is down and somebody else listens on its own.

        Else supervisord would start it on that port again until it gave up.

        Raises:
            AgentUnknownError: There is none of this name.
            NotInstalledError: It has no release yet.
            StartError: It did not come up there either.
            NoFreePortError: There is no other port.
        """
        with self._locks.hold(name, f"move {name}", timeout_seconds=_LOCK_SECONDS):
            release, agent = self._release(name), self._store.agents.get(name)
            is_wanted = agent.desired is Desired.RUNNING and not self._runs.is_up(release)
            if is_wanted and agent.port is not None and self._runs.is_lost(agent.port):
                self._store.events.add(
                    EventKind.AGENT_MOVING, name, f"{name} leaves port {agent.port}: it is not free"
                )
                self._bring_up(release)

    def stop(self, name: str) -> AgentView:
        """Stop an agent within its stop time; one that is stopped stays as it is.

        Raises:
            AgentUnknownError: There is none of this name.
            StopError: Its process outlives SIGKILL.
        """
        self._store.agents.get(name)
        with self._locks.hold(name, f"stop {name}", timeout_seconds=_LOCK_SECONDS):
            agent = self._store.agents.get(name)
            self._store.agents.set_desired(name, Desired.STOPPED)
            if agent.current is not None:
                self._runs.take_down(self._store.releases.get(name, agent.current))
            self._retries.forget(name)
            if agent.desired is Desired.RUNNING:
                self._store.events.add(EventKind.AGENT_STOPPED, name, f"{name} was stopped")
            self._store.agents.set_last_error(name, "")
            return self.view(name)

    def stop_over_limit(
        self, name: str, sentence: str, *, run: tuple[str, int | None] | None = None
    ) -> None:
        """Stop an agent that is over a limit; it stays stopped until somebody starts it.

        Args:
            name: Which agent.
            sentence: Why, for the timeline and whoever asks.
            run: Program and pid of who is to blame: if that is not what serves once the agent is
                free, as after a rehearsal, nothing is stopped. None: whatever serves is.

        Raises:
            AgentUnknownError: There is none of this name.
            StopError: Its process outlives SIGKILL.
        """
        self._release(name)
        with self._locks.hold(name, f"stop {name}", timeout_seconds=_LOCK_SECONDS):
            release = self._release(name)
            process = self._processes.get(release.program)
            if run is not None and (process is None or run != (process.program, process.pid)):
                return
            self._store.agents.set_desired(name, Desired.STOPPED)
            self._runs.take_down(release)
            self._retries.forget(name)
            self._store.agents.set_last_error(name, sentence)
            self._store.events.add(EventKind.AGENT_STOPPED_OVER_LIMIT, name, sentence)

    def restart(self, name: str, *, reason: str = "asked for") -> AgentView:
        """Stop an agent and start it again on the same port.

        Args:
            name: Which agent.
            reason: Why, for the timeline.

        Raises:
            AgentUnknownError: There is none of this name.
            NotInstalledError: It has no release yet.
            SecretUnavailableError: It refers to a secret that it cannot be given; it runs on.
            ReleaseDamagedError: It could not come up again, and is in quarantine; it runs on.
            StartError: It did not come up again.
        """
        self._release(name)
        with self._locks.hold(name, f"restart {name}", timeout_seconds=_LOCK_SECONDS):
            release = self._release(name)
            self._secrets.require(name, release.manifest)  # or it would be stopped for nothing
            self._store.agents.set_desired(name, Desired.RUNNING)
            self._store.events.add(
                EventKind.AGENT_RESTARTING, name, f"{name} is restarted: {reason}"
            )
            self._retries.forget(name)
            self._bring_up(release)
            return self.view(name)

    def kill(self, name: str) -> AgentView:
        """End an agent at once by SIGKILL; waits for no lock, and it stays down.

        Raises:
            AgentUnknownError: There is none of this name.
            StopError: Its process outlives SIGKILL.
        """
        agent = self._store.agents.get(name)
        self._store.agents.set_desired(name, Desired.STOPPED)
        if agent.current is not None:
            release = self._store.releases.get(name, agent.current)
            self._runs.kill(release)
            self._runs.let_go(release)
            self._store.leases.free(release.program)
        self._retries.forget(name)
        self._store.agents.set_last_error(name, "")
        self._store.events.add(EventKind.AGENT_KILLED, name, f"{name} was killed")
        return self.view(name)

    def remove(self, name: str, *, keep_data: bool = False) -> None:
        """Stop an agent and delete everything of it.

        Args:
            name: Which agent.
            keep_data: Leave its data directory for a later agent of the same name.

        Raises:
            AgentUnknownError: There is none of this name.
        """
        self._store.agents.get(name)
        with self._locks.hold(name, f"remove {name}", timeout_seconds=_LOCK_SECONDS):
            if keep_data:
                self._files.keep_data(name)
            self._store.agents.set_desired(name, Desired.REMOVED)
            for release in self._store.releases.of_agent(name):
                self._runs.discard(release)
            self._files.delete_agent(name)
            self._runs.free_identity(name)
            self._store.agents.remove(name)
            self._secrets.forget_former()
            self._retries.forget(name)
            self._store.events.add(EventKind.AGENT_REMOVED, name, f"{name} was removed")

    def _release(self, name: str) -> Release:
        """Read an agent's current release; before the lock too, so that nobody waits to be refused.

        Raises:
            AgentUnknownError: There is none of this name.
            NotInstalledError: It has no release yet.
        """
        agent = self._store.agents.get(name)
        if agent.current is None:
            raise NotInstalledError(
                f"cannot start {name}: it has no release yet",
                cause=f"{name} has no release",
                hint="its first deployment is still under way, or failed",
            )
        return self._store.releases.get(name, agent.current)

    def _bring_up(self, release: Release) -> None:
        name = release.agent
        self._require_whole(release)
        try:
            run = self._runs.bring_up(release)
        except DeployerError as error:
            self._store.agents.set_last_error(name, error.detail, error.hint)
            self._store.events.add(EventKind.AGENT_START_FAILED, name, error.detail)
            self._retries.record_failure(name, now())
            self._runs.let_go(release)
            if isinstance(error, StartError):
                self._put_back_former(release)
            raise
        self._store.agents.set_port(name, run.port)
        self._store.agents.set_last_error(name, "")
        if release.status is not ReleaseStatus.PROVEN:
            self._store.releases.set_status(release, ReleaseStatus.PROVEN)
            self._files.write_record(replace(release, status=ReleaseStatus.PROVEN))
        self._store.events.add(
            EventKind.AGENT_STARTED, name, f"{name} serves on port {run.port}, pid {run.pid}"
        )
        self._runs.compile(release)

    def _require_whole(self, release: Release) -> None:
        """Put an agent whose release is damaged into quarantine, and let out one that is not."""
        damage = self._files.find_damage(release)
        if damage != self._store.agents.get(release.agent).quarantine:
            self._store.agents.set_quarantine(release.agent, damage)
        if damage:
            sentence = f"{release.agent} release {release.number} is damaged: {damage}"
            self._store.events.add(EventKind.AGENT_QUARANTINED, release.agent, sentence)
            raise ReleaseDamagedError(
                f"cannot start {release.agent}: release {release.number} is damaged: {damage}",
                cause=damage,
                hint="deploy the package again with force, or roll back",
            )

    def _put_back_former(self, release: Release) -> None:
        """Make the release before current again, if this one never proved itself."""
        agent = self._store.agents.get(release.agent)
        if release.status is not ReleaseStatus.INSTALLED or agent.previous is None:
            return
        former = self._store.releases.get(agent.name, agent.previous)
        good_before = [
            each.number
            for each in self._store.releases.of_agent(agent.name)
            if each.number < former.number and each.status is ReleaseStatus.PROVEN
        ]
        with self._store.transaction():
            self._store.releases.set_status(release, ReleaseStatus.FAILED)
            self._store.agents.activate(agent.name, former.number, max(good_before, default=None))
            self._store.agents.set_desired(agent.name, Desired.STOPPED)
        self._retries.forget(agent.name)
        self._files.write_checksum(agent.name, former.md5)
        self._runs.discard(release)
        self._store.events.add(
            EventKind.AGENT_PUT_BACK,
            agent.name,
            f"release {former.number} of {agent.name} is current again",
        )

"""What operators had supervisord do past the API, written down as what is desired."""

from __future__ import annotations

import threading

from deployer.audits import Entry
from deployer.event_kinds import EventKind
from deployer.model import Act, Agent, Desired, Process, Release, State
from deployer.parts import Parts
from deployer.runs import Runs
from deployer.store import now


class Intents:
    """Takes a start or a stop by an operator for what it is: an intent, not a fault to be mended.

    Our plugin says who asked for the last one of each program, and when. What is newer than the row
    holds, whether this server was there or not; what is older was overruled since. Without the
    plugin a stop is only guessed at, by who sees it happen.
    """

    def __init__(self, parts: Parts, runs: Runs) -> None:
        """Work with the parts of one server."""
        self._store = parts.store
        self._supervisord = parts.supervisord
        self._retries = parts.retries
        self._runs = runs
        self._guard = threading.Lock()
        self._began_at = now()

    def take(self, release: Release, process: Process | None, was: Process | None = None) -> bool:
        """Write an operator's act down, if there is one that nobody wrote down yet.

        Args:
            release: The current one of its agent, on which nobody is at work.
            process: What is said of it now.
            was: What was said before; None: nobody knows.

        Returns:
            Whether there was one.
        """
        if process is None or (process.last_act and not process.last_act.is_operators):
            return False
        with self._guard:  # or two who look at once would both write it down
            agent = self._store.agents.find(release.agent)
            if agent is None or agent.desired is Desired.REMOVED:
                return False
            act = process.last_act or self._guess(agent, process, was)
            if act is None or not act.is_operators or act.at <= agent.desired_at:
                return False
            if act.desired is Desired.RUNNING:
                self._write_start(agent, release, act)
            else:
                self._write_stop(agent, act)
        return True

    def _guess(self, agent: Agent, process: Process, was: Process | None) -> Act | None:
        """Take a change that nobody of ours made for an act: this supervisord does not tell."""
        has_stopped = process.state is State.STOPPED and was is not None and was.state.is_alive
        if agent.desired is Desired.RUNNING and has_stopped:
            is_act = self._supervisord.takes_orders()  # else it stops everything
            return Act(Desired.STOPPED, is_operators=True, at=now()) if is_act else None
        if agent.desired is Desired.STOPPED and process.state is State.STARTING:
            return Act(Desired.RUNNING, is_operators=True, at=now())
        return None

    def _write_stop(self, agent: Agent, act: Act) -> None:
        self._store.agents.set_desired(agent.name, Desired.STOPPED, act.at)
        self._store.agents.set_last_error(agent.name, "")
        self._retries.forget(agent.name)
        self._tell(
            EventKind.AGENT_STOPPED, agent, f"{agent.name} was stopped through supervisord", act
        )
        self._store.audit.add(_seen("stop", agent))

    def _write_start(self, agent: Agent, release: Release, act: Act) -> None:
        self._store.agents.set_desired(agent.name, Desired.RUNNING, act.at)
        self._retries.forget(agent.name)
        if agent.port is not None and self._store.leases.of_program(release.program) is None:
            self._store.leases.add(agent.port, agent.name, release.program)
        self._supervisord.apply(release.program, self._runs.restart_policy(release))
        self._tell(
            EventKind.AGENT_STARTED, agent, f"{agent.name} was started through supervisord", act
        )
        self._store.audit.add(_seen("start", agent))

    def _tell(self, kind: EventKind, agent: Agent, sentence: str, act: Act) -> None:
        if act.at < self._began_at:
            sentence += f" at {act.at:%H:%M:%S} UTC, while this server was away"
        self._store.events.add(kind, agent.name, sentence)


def _seen(act: str, agent: Agent) -> Entry:
    """Write down an act that came by supervisord's own ways: who did it, supervisord does not say.

    One through the web UI at ``/supervisor/`` has an entry with its caller's name besides.
    """
    return Entry(who="supervisord", operation=act, source="", status=0, agent=agent.name)

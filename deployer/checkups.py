"""How agents are: each is asked when its time has come, and ended when its answers stay bad."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from deployer.agents import Agents
from deployer.causes import Cause
from deployer.errors import DeployerError
from deployer.event_kinds import EventKind
from deployer.limits.verdicts import Verdict
from deployer.model import Agent, Process, Release, State
from deployer.parts import Parts
from deployer.readings import Reading
from deployer.runs import Runs
from deployer.statuses import AgentView
from deployer.store import now

_log: Final = logging.getLogger(__name__)

_TICK_SECONDS: Final = 0.2
_UNPROVEN_SECONDS: Final = 1.0
_MOST_THREADS: Final = 1000
_UP: Final = frozenset({State.STARTING, State.RUNNING})


class Checkups:
    """Puts the health checks of all agents, each in a thread of its own while it lasts."""

    def __init__(
        self, parts: Parts, runs: Runs, agents: Agents, is_undigested: Callable[[str], bool]
    ) -> None:
        """Work with the parts of one server; nothing happens before `start`.

        Args:
            parts: The adapters.
            runs: Of releases.
            agents: Who is asked.
            is_undigested: Tells of a program that a change of its process is still to be told.
        """
        self._store = parts.store
        self._processes = parts.processes
        self._readings = parts.readings
        self._locks = parts.locks
        self._verdicts = parts.verdicts
        self._runs = runs
        self._agents = agents
        self._is_undigested = is_undigested
        self._ended = threading.Event()
        # A thread is made only when all are busy: as many as hang, and a few more.
        most = min(parts.settings.max_agents, _MOST_THREADS)
        self._checks = ThreadPoolExecutor(most, thread_name_prefix="health")
        self._ends = ThreadPoolExecutor(most, thread_name_prefix="end")
        self._checking: set[str] = set()
        self._due: dict[str, tuple[int | None, float]] = {}

    def start(self) -> None:
        """Begin to ask."""
        threading.Thread(target=self._ask_around, name="ask_around", daemon=True).start()

    def close(self) -> None:
        """Ask no more."""
        self._ended.set()
        for pool in (self._checks, self._ends):
            pool.shutdown(wait=False, cancel_futures=True)

    def _ask_around(self) -> None:
        """Have every agent asked when its time has come."""
        while not self._ended.wait(_TICK_SECONDS):
            try:
                self._look(time.monotonic())
            except Exception:  # noqa: BLE001 - the next round may do better
                _log.exception("cannot ask around")

    def _look(self, moment: float) -> None:
        """Look at every agent, and have asked who is due.

        It runs five times a second, so passing over one that is not due must cost almost nothing.

        Args:
            moment: Now, on the monotonic clock.
        """
        views = self._agents.standings()
        for view in views:
            process = view.process
            if process is None or view.port is None or process.state not in _UP:
                continue
            pid, due_at = self._due.get(process.program, (None, 0.0))
            if pid != process.pid or due_at <= moment:
                self._ask_if_due(view)
        if len(self._due) > len(views):
            programs = {view.process.program for view in views if view.process is not None}
            for program in self._due.keys() - programs:
                del self._due[program]

    def _ask_if_due(self, view: AgentView) -> None:
        try:
            if self._is_due(view):
                self._checking.add(view.agent.name)
                self._checks.submit(self._ask, view)
        except DeployerError as error:  # its manifest in state.db is damaged, and nobody else's
            self._quarantine(view.agent, error)

    def _quarantine(self, agent: Agent, error: DeployerError) -> None:
        """Say once of an agent that runs that nobody can tell how it is any more."""
        if not agent.quarantine:
            sentence = f"its row in state.db is damaged: {error.detail}"
            self._store.agents.set_quarantine(agent.name, sentence)
            self._store.events.add(
                EventKind.AGENT_QUARANTINED, agent.name, f"{agent.name}: {sentence}"
            )

    def _is_due(self, view: AgentView) -> bool:
        name, release, process = view.agent.name, view.release, view.process
        if release is None or process is None:
            return False
        if name in self._checking or self._locks.holder(name) is not None:
            return False
        reading = self._readings.of(process)
        if reading is None:
            return True
        interval = self._interval(release, reading)
        left = interval - (now() - reading.checked_at).total_seconds()
        left = min(left, interval)  # the clock may have been set back
        self._due[process.program] = process.pid, time.monotonic() + left
        return left <= 0

    def _interval(self, release: Release, reading: Reading) -> float:
        interval = self._runs.health_check(release).interval_seconds
        return interval if reading.was_healthy else min(interval, _UNPROVEN_SECONDS)

    def _ask(self, view: AgentView) -> None:
        name = view.agent.name
        try:
            if view.release is None or view.process is None or view.port is None:
                return
            last = self._readings.of(view.process)
            answer = self._runs.ask(view.release, view.port)
            latest = self._processes.get(view.release.program)
            if latest is None or latest.pid != view.process.pid or self._ended.is_set():
                return  # the question was put to one process and answered by none or another
            if self._is_undigested(latest.program):
                return  # a death is told before the recovery from it, and not over it
            reading = self._readings.record(latest, answer, checked_at=now())
            due_at = time.monotonic() + self._interval(view.release, reading)
            self._due[latest.program] = latest.pid, due_at
            was_degraded = last is not None and last.answer.degraded
            if answer.healthy:
                has_recovered = last is None or last.bad_answers
                is_well_again = was_degraded and not answer.degraded
                if has_recovered or is_well_again or view.agent.last_error:
                    self._write_recovery(view)
            elif self._is_hopeless(view, latest, reading):
                self._ends.submit(self._end_hopeless, view, latest, reading)
            if answer.degraded and not was_degraded:
                sentence = f"{name} says that it is degraded: {answer.detail}"
                self._store.events.add(EventKind.AGENT_DEGRADED, name, sentence)
        except Exception:  # noqa: BLE001 - nobody reads this thread's result
            _log.exception("cannot ask %s how it is", name)
            if view.process is not None:  # not five times a second from now on
                due_at = time.monotonic() + _UNPROVEN_SECONDS
                self._due[view.process.program] = view.process.pid, due_at
        finally:
            self._checking.discard(name)

    def _write_recovery(self, view: AgentView) -> None:
        self._store.agents.set_last_error(view.agent.name, "")
        self._store.events.add(
            EventKind.AGENT_HEALTHY, view.agent.name, f"{view.agent.name} is healthy"
        )

    def _is_hopeless(self, view: AgentView, process: Process, reading: Reading) -> bool:
        if view.release is None:
            return False
        question = self._runs.health_check(view.release)
        if reading.was_healthy:
            return reading.bad_answers >= question.failures
        age = (now() - (process.started_at or now())).total_seconds()
        return age > question.start_seconds

    def _end_hopeless(self, view: AgentView, process: Process, reading: Reading) -> None:
        """End an unhealthy process; its death is then treated as any other one is."""
        name = view.agent.name
        try:
            if view.release is not None and process.pid is not None:
                cause = self._runs.diagnoses.of_answer(
                    view.release, reading.answer, process.pid, view.port or 0
                )
                self._end_unhealthy(view.release, process.pid, reading, cause)
        except DeployerError as error:  # somebody is at work on it; else the next check comes back
            _log.warning("cannot end %s, which is unhealthy: %s", name, error.detail)
        except Exception:  # noqa: BLE001 - nobody reads this thread's result
            _log.exception("cannot end %s, which is unhealthy", name)

    def _end_unhealthy(self, release: Release, pid: int, reading: Reading, cause: Cause) -> None:
        name = release.agent
        is_first = reading.bad_answers == self._runs.health_check(release).failures
        sentence = f"{name} is unhealthy: {reading.answer.detail}"
        if not self._runs.restart_policy(release).enabled:
            if is_first:
                self._store.events.add(EventKind.AGENT_UNHEALTHY, name, sentence)
                self._store.agents.set_last_error(name, sentence, cause.hint)
            return
        with self._locks.hold(name, f"end unhealthy {name}", timeout_seconds=_UNPROVEN_SECONDS):
            latest = self._processes.get(release.program)
            if latest is None or latest.pid != pid or not latest.state.is_alive:
                return  # it was stopped while we waited for the lock
            self._store.events.add(EventKind.AGENT_UNHEALTHY, name, f"{sentence}; it is restarted")
            self._store.agents.set_last_error(name, sentence, cause.hint)
            verdict = Verdict(pid, cause.code, f"ended by this server: it {cause.text}", cause.hint)
            self._verdicts.record(release.program, verdict)
            self._runs.end(release, pid)

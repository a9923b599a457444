"""What is done about a process that ended by itself: why is written down, and what follows done."""

from __future__ import annotations

import contextlib
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from deployer.agents import Agents
from deployer.crash_loops import CrashLoops
from deployer.errors import DeployerError
from deployer.event_kinds import EventKind
from deployer.logs import tail
from deployer.model import Agent, Process, Release, State
from deployer.parts import Parts
from deployer.run_logs import EVIDENCE_LINES
from deployer.runs import Runs
from deployer.store import now

_log: Final = logging.getLogger(__name__)

_LOCK_SECONDS: Final = 10.0
_MOST_THREADS: Final = 1000


class Deaths:
    """Writes deaths down with their causes, moves ports that are lost, ends crash loops."""

    def __init__(self, parts: Parts, runs: Runs, agents: Agents) -> None:
        """Work with the parts of one server."""
        self._state = parts.state
        self._store = parts.store
        self._supervisord = parts.supervisord
        self._readings = parts.readings
        self._locks = parts.locks
        self._retries = parts.retries
        self._secrets = parts.secrets
        self._runs = runs
        self._agents = agents
        self._crash_loops = CrashLoops()
        # A thread is made only when all are busy.
        most = min(parts.settings.max_agents, _MOST_THREADS)
        self._acts = ThreadPoolExecutor(most, thread_name_prefix="mend")

    def close(self) -> None:
        """Begin nothing new; what runs is not waited for."""
        self._acts.shutdown(wait=False, cancel_futures=True)

    def count(self, release: Release) -> None:
        """Stop what dies too often, where supervisord itself would start it for ever."""
        if self._supervisord.limits_restarts:
            return
        policy = self._runs.restart_policy(release)
        why = self._crash_loops.record_death(release.program, policy) if policy.enabled else None
        if why is not None:
            self._acts.submit(self._stop_looping, release, f"{release.agent} is stopped: {why}")

    def write_if_news(
        self,
        agent: Agent,
        release: Release,
        was: Process | None,
        process: Process,
        *,
        is_ours: bool,
    ) -> None:
        """Write down that a process is dead, unless that was done.

        Args:
            agent: Whose it was.
            release: Which ran.
            was: What it was before; None: nobody knows, as at the server's start.
            process: What it is.
            is_ours: Whether this server was at work on the agent then.
        """
        if _is_news(agent, was, process):
            # Whoever is at work on an agent says why it did not come up. But one that had come up
            # may die just before they are done, and then nobody else would tell.
            is_told = is_ours and (agent.last_error or self._readings.of(was) is None)
            self.write(agent, release, was, process, is_told=bool(is_told))
        elif was is not None and process.state is State.FATAL and agent.last_error:
            self._write_end(agent, process)

    def write(
        self,
        agent: Agent,
        release: Release,
        was: Process | None,
        process: Process,
        *,
        is_told: bool = False,
    ) -> None:
        """Write down why a process died.

        Args:
            agent: Whose it was.
            release: Which ran.
            was: What it was before; None: nobody knows.
            process: What it is; another one may run already.
            is_told: Somebody else says of the agent what is wrong.
        """
        cause = self._runs.diagnoses.of_death(
            release,
            agent.port or 0,
            self._last_lines(release, process),
            pid=None if was is None else was.pid,
        )
        sentence = f"{agent.name} died: {cause.text}"
        self._store.events.add(EventKind.PROCESS_DIED, agent.name, sentence)
        if is_told:
            return
        self._store.agents.set_last_error(agent.name, sentence, cause.hint)
        if process.state is State.FATAL:
            self._write_end(agent, process)
        if cause.code == "address-in-use" and self._runs.restart_policy(release).enabled:
            self._acts.submit(self._move, agent.name)

    def _write_end(self, agent: Agent, process: Process) -> None:
        """Add to the last death that no start follows it."""
        sentence = f"{agent.name}: {process.message}"
        self._store.events.add(EventKind.AGENT_GIVEN_UP, agent.name, sentence)
        last = self._store.agents.get(agent.name)
        self._store.agents.set_last_error(
            agent.name, f"{last.last_error}; {process.message}", last.last_hint
        )

    def _last_lines(self, release: Release, process: Process) -> list[str]:
        """Read what a run wrote last: a log that is older than the run says nothing about it."""
        began = 0.0 if process.started_at is None else process.started_at.timestamp()
        lines: list[str] = []
        for log in (
            self._state.stdout_log(release.program),
            self._state.stderr_log(release.program),
        ):
            with contextlib.suppress(OSError):
                if log.stat().st_mtime >= began:
                    lines += tail(log, EVIDENCE_LINES)
        return self._secrets.redact(release, lines[-EVIDENCE_LINES:])

    def _move(self, name: str) -> None:
        try:
            self._agents.leave_port(name)
        except DeployerError as error:
            _log.warning("cannot move %s to another port: %s", name, error.detail)
        except Exception:  # noqa: BLE001 - nobody reads this thread's result
            _log.exception("cannot move %s to another port", name)

    def _stop_looping(self, release: Release, sentence: str) -> None:
        name = release.agent
        try:
            with self._locks.hold(name, f"stop looping {name}", timeout_seconds=_LOCK_SECONDS):
                self._runs.take_down(release)
                self._retries.record_failure(name, now(), is_crash_loop=True)
                self._store.agents.set_last_error(name, sentence)
                self._store.events.add(EventKind.AGENT_GIVEN_UP, name, sentence)
        except DeployerError as error:
            _log.warning("cannot stop %s, which dies again and again: %s", name, error.detail)


def _is_news(agent: Agent, was: Process | None, process: Process) -> bool:
    """Tell whether a process that is dead died just now, or before anybody wrote it down.

    What this server finds at its start was written down by the one before, unless supervisord's
    restarts came to their end meanwhile.
    """
    if was is not None:
        return was.state.is_alive
    has_ended = process.state is State.FATAL and process.restarts > 0
    return not agent.last_error or (has_ended and process.message not in agent.last_error)

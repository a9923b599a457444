"""What happens to agents while nobody asks: deaths, acts of operators, health."""

from __future__ import annotations

import contextlib
import logging
import queue
import socket
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Final

from deployer.agents import Agents
from deployer.checkups import Checkups
from deployer.crash_loops import CrashLoops, is_death
from deployer.environment_retention import EnvironmentRetention
from deployer.errors import DeployerError, SupervisordRefusedError
from deployer.event_kinds import EventKind
from deployer.intents import Intents
from deployer.logs import tail
from deployer.model import Agent, Desired, Process, Release, State, agent_of_program
from deployer.package_retention import PackageRetention
from deployer.parts import Parts
from deployer.run_logs import EVIDENCE_LINES
from deployer.runs import Runs
from deployer.store import idempotency, now
from deployer.supervisord import receive_push

_log: Final = logging.getLogger(__name__)

_RESYNC_SECONDS: Final = 2.0
_LOCK_SECONDS: Final = 10.0
_DATAGRAM_BYTES: Final = 64 * 1024
_MOST_THREADS: Final = 1000
_TRIM_SECONDS: Final = 600.0

Change = tuple[Process | None, Process, bool]
"""What a process was and is, and whether this server was at work on its agent then."""


class Monitor:
    """Watches processes and asks agents how they are, in threads of its own."""

    def __init__(
        self,
        parts: Parts,
        runs: Runs,
        agents: Agents,
        intents: Intents,
        on_change: Callable[[], None],
    ) -> None:
        """Work with the parts of one server; nothing happens before `start`.

        Args:
            parts: The adapters.
            runs: Of releases.
            agents: Who is watched.
            intents: Of operators.
            on_change: Told when a change of a process was taken in.
        """
        self._settings = parts.settings
        self._state = parts.state
        self._store = parts.store
        self._supervisord = parts.supervisord
        self._processes = parts.processes
        self._readings = parts.readings
        self._locks = parts.locks
        self._retries = parts.retries
        self._secrets = parts.secrets
        self._packages = PackageRetention(parts)
        self._environments = EnvironmentRetention(parts)
        self._runs = runs
        self._agents = agents
        self._intents = intents
        self._on_change = on_change
        self._crash_loops = CrashLoops()
        self._changes: queue.SimpleQueue[Change] = queue.SimpleQueue()
        self._undigested: Counter[str] = Counter()
        self._guard = threading.Lock()
        self._ended = threading.Event()
        # A thread is made only when all are busy.
        most = min(self._settings.max_agents, _MOST_THREADS)
        self._acts = ThreadPoolExecutor(most, thread_name_prefix="mend")
        self._checkups = Checkups(parts, runs, agents, self._is_undigested)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    def start(self) -> None:
        """Begin to watch."""
        self._state.events_socket.unlink(missing_ok=True)
        self._socket.bind(str(self._state.events_socket))
        self._processes.observe(self._note)
        for loop in (self._receive, self._resync, self._digest, self._trim):
            threading.Thread(target=loop, name=loop.__name__.strip("_"), daemon=True).start()
        self._checkups.start()

    def close(self) -> None:
        """Stop watching."""
        self._ended.set()
        self._checkups.close()
        self._acts.shutdown(wait=False, cancel_futures=True)
        self._socket.close()
        self._state.events_socket.unlink(missing_ok=True)

    # Processes ------------------------------------------------------------------------------------

    def _note(self, was: Process | None, process: Process) -> None:
        """Queue a change, with who was at work when it came: a moment later it is too late."""
        named = agent_of_program(process.program)
        if named is not None:
            is_ours = self._locks.holder(named[0]) is not None
            with self._guard:
                self._undigested[process.program] += 1
            self._changes.put((was, process, is_ours))

    def _is_undigested(self, program: str) -> bool:
        return self._undigested[program] > 0

    def _receive(self) -> None:
        while not self._ended.is_set():
            try:
                self._processes.receive(receive_push(self._socket.recv(_DATAGRAM_BYTES)))
            except SupervisordRefusedError as error:
                _log.warning("%s", error.detail)
            except OSError:
                if not self._ended.is_set():
                    _log.exception("cannot receive from supervisord")
                return

    def _resync(self) -> None:
        """Read all states now and then: a push may be lost, and some supervisords send none."""
        while not self._ended.wait(_RESYNC_SECONDS):
            try:
                self._processes.refresh()
            except DeployerError as error:
                _log.warning("%s", error.detail)

    def _digest(self) -> None:
        while not self._ended.is_set():
            with contextlib.suppress(queue.Empty):
                was, process, is_ours = self._changes.get(timeout=1)
                try:
                    self._digest_one(was, process, is_ours=is_ours)
                except Exception:  # noqa: BLE001 - one bad agent must not blind us for the others
                    _log.exception("cannot take in that %s is %s", process.program, process.state)
                finally:
                    with self._guard:
                        self._undigested[process.program] -= 1
                self._on_change()

    def _digest_one(self, was: Process | None, process: Process, *, is_ours: bool) -> None:
        name, number = agent_of_program(process.program) or ("", 0)
        agent = self._store.agents.find(name)
        if agent is None or agent.current != number:
            return
        release = self._store.releases.get(name, number)
        if not is_ours and not self._supervisord.limits_restarts and is_death(was, process):
            self._limit_restarts(release)
        self._write_change(agent, release, was, process, is_ours=is_ours)
        # What this server finds at its start has run before. A restart is nobody's act, though
        # whoever ended the run before may still hold the lock.
        is_new = was is not None and process.pid not in {None, was.pid}
        if is_new and (not is_ours or process.restarts > 0):
            self._write_run(release, process)

    def _write_change(
        self,
        agent: Agent,
        release: Release,
        was: Process | None,
        process: Process,
        *,
        is_ours: bool,
    ) -> None:
        if process.state in {State.EXITED, State.BACKOFF, State.FATAL}:
            if _is_news(agent, was, process):
                # Whoever is at work on an agent says why it did not come up. But one that had come
                # up may die just before they are done, and then nobody else would tell.
                is_told = is_ours and (agent.last_error or self._readings.of(was) is None)
                self._write_death(agent, release, was, process, is_told=bool(is_told))
            elif was is not None and process.state is State.FATAL and agent.last_error:
                self._write_end(agent, process)
        elif is_ours:
            return
        elif is_death(was, process):  # and another one runs already
            self._write_death(agent, release, was, process, is_told=False)
        elif process.state is not State.STOPPING:  # what has been asked for is not done before
            self._intents.take(release, process, was)
            if process.state is State.STOPPED:
                self._free_port(agent.name, release)

    def _write_death(
        self,
        agent: Agent,
        release: Release,
        was: Process | None,
        process: Process,
        *,
        is_told: bool,
    ) -> None:
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

    def _write_run(self, release: Release, process: Process) -> None:
        """Note a process that nobody here asked for: the restart policy did, or an operator."""
        self._store.events.add(
            EventKind.PROCESS_STARTED,
            release.agent,
            f"{release.agent} release {release.number} was started by supervisord,"
            f" pid {process.pid}",
        )

    def _write_end(self, agent: Agent, process: Process) -> None:
        """Add to the last death that no start follows it."""
        self._store.events.add(
            EventKind.AGENT_GIVEN_UP, agent.name, f"{agent.name}: {process.message}"
        )
        last = self._store.agents.get(agent.name)
        self._store.agents.set_last_error(
            agent.name, f"{last.last_error}; {process.message}", last.last_hint
        )

    def _limit_restarts(self, release: Release) -> None:
        """Stop what dies too often, where supervisord itself would start it for ever."""
        policy = self._runs.restart_policy(release)
        why = self._crash_loops.record_death(release.program, policy) if policy.enabled else None
        if why is not None:
            self._acts.submit(self._stop_looping, release, f"{release.agent} is stopped: {why}")

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

    def _free_port(self, name: str, release: Release) -> None:
        if self._store.agents.get(name).desired is Desired.STOPPED:
            self._store.leases.free(release.program)

    def _trim(self) -> None:
        """Let neither the timeline nor what was uploaded become too long or too old."""
        while True:
            try:
                oldest = now() - timedelta(days=self._settings.events_days)
                self._store.events.trim(kept=self._settings.events_kept, before=oldest)
                if self._settings.audit_days:
                    self._store.audit.trim(now() - timedelta(days=self._settings.audit_days))
                self._store.idempotency.trim(now() - idempotency.KEPT)
                self._packages.trim()
                self._environments.trim()
            except Exception:  # noqa: BLE001 - the disk may be full: it is tried again
                _log.exception("cannot trim the timeline, or what was uploaded")
            if self._ended.wait(_TRIM_SECONDS):
                return


def _is_news(agent: Agent, was: Process | None, process: Process) -> bool:
    """Tell whether a process that is dead died just now, or before anybody wrote it down.

    What this server finds at its start was written down by the one before, unless supervisord's
    restarts came to their end meanwhile.
    """
    if was is not None:
        return was.state.is_alive
    has_ended = process.state is State.FATAL and process.restarts > 0
    return not agent.last_error or (has_ended and process.message not in agent.last_error)

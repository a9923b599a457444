"""What supervisord says of agents' processes, taken in: starts, deaths, acts of operators."""

from __future__ import annotations

import contextlib
import logging
import queue
import socket
import threading
from collections import Counter
from collections.abc import Callable
from typing import Final

from deployer.agents import Agents
from deployer.checkups import Checkups
from deployer.crash_loops import is_death
from deployer.deaths import Deaths
from deployer.errors import DeployerError, SupervisordRefusedError
from deployer.event_kinds import EventKind
from deployer.intents import Intents
from deployer.model import Agent, Desired, Process, Release, State, agent_of_program
from deployer.parts import Parts
from deployer.runs import Runs
from deployer.supervisord import receive_push

_log: Final = logging.getLogger(__name__)

_RESYNC_SECONDS: Final = 2.0
_DATAGRAM_BYTES: Final = 64 * 1024

Change = tuple[Process | None, Process, bool]
"""What a process was and is, and whether this server was at work on its agent then."""


class Monitor:
    """Watches processes, and has deaths, acts and health seen to, in threads of its own."""

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
        self._state = parts.state
        self._store = parts.store
        self._processes = parts.processes
        self._locks = parts.locks
        self._intents = intents
        self._on_change = on_change
        self._changes: queue.SimpleQueue[Change] = queue.SimpleQueue()
        self._undigested: Counter[str] = Counter()
        self._guard = threading.Lock()
        self._ended = threading.Event()
        self._deaths = Deaths(parts, runs, agents)
        self._checkups = Checkups(parts, runs, agents, self._is_undigested)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    def start(self) -> None:
        """Begin to watch."""
        self._state.events_socket.unlink(missing_ok=True)
        self._socket.bind(str(self._state.events_socket))
        self._processes.observe(self._note)
        for loop in (self._receive, self._resync, self._digest):
            threading.Thread(target=loop, name=loop.__name__.strip("_"), daemon=True).start()
        self._checkups.start()

    def close(self) -> None:
        """Stop watching."""
        self._ended.set()
        self._checkups.close()
        self._deaths.close()
        self._socket.close()
        self._state.events_socket.unlink(missing_ok=True)

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
        if not is_ours and is_death(was, process):
            self._deaths.count(release)
        self._take_in(agent, release, was, process, is_ours=is_ours)
        # A process found at our start is no new run. A restart by policy is written down even while
        # somebody holds the lock, for they did not ask for it.
        is_new = was is not None and process.pid not in {None, was.pid}
        if is_new and (not is_ours or process.restarts > 0):
            self._write_run(release, process)

    def _take_in(
        self,
        agent: Agent,
        release: Release,
        was: Process | None,
        process: Process,
        *,
        is_ours: bool,
    ) -> None:
        if process.state in {State.EXITED, State.BACKOFF, State.FATAL}:
            self._deaths.write_if_news(agent, release, was, process, is_ours=is_ours)
        elif is_ours:
            return
        elif is_death(was, process):  # and another one runs already
            self._deaths.write(agent, release, was, process)
        elif process.state is not State.STOPPING:  # what has been asked for is not done before
            self._intents.take(release, process, was)
            if process.state is State.STOPPED:
                self._free_port(agent.name, release)

    def _write_run(self, release: Release, process: Process) -> None:
        """Note a process that nobody here asked for: the restart policy did, or an operator."""
        self._store.events.add(
            EventKind.PROCESS_STARTED,
            release.agent,
            f"{release.agent} release {release.number} was started by supervisord,"
            f" pid {process.pid}",
        )

    def _free_port(self, name: str, release: Release) -> None:
        agent = self._store.agents.get(name)
        if agent.is_readable and agent.desired is Desired.STOPPED:
            self._store.leases.free(release.program)

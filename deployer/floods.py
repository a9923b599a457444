"""Agents that flood their logs: told, and stopped where nothing holds them up, or settings ask."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from deployer.agents import Agents
from deployer.byte_sizes import size_text
from deployer.errors import DeployerError
from deployer.event_kinds import EventKind
from deployer.limits.meters import Meter
from deployer.model import Process, agent_of_program
from deployer.parts import Parts

_log: Final = logging.getLogger(__name__)

_LOOK_SECONDS: Final = 1.0
_STOPS_AT_ONCE: Final = 2


class Growth:
    """How fast a program's logs grow, seen from outside: where nothing meters what is read."""

    def __init__(self, paths: Iterable[Path], meter: Meter, rotated_bytes: int) -> None:
        """Watch paths.

        Args:
            paths: Both logs of a program.
            meter: What they may grow by.
            rotated_bytes: Where a log is rotated; one that was counts with so much at least.
        """
        self._meter = meter
        self._rotated_bytes = rotated_bytes
        self._seen = {path: self._look(path) for path in paths}

    def is_flood(self) -> bool:
        """Look again, and tell whether they grew faster than they may, for longer than they may."""
        for path, (file, size) in self._seen.items():
            now_file, now_size = self._seen[path] = self._look(path)
            is_rotated = now_file != file or now_size < size
            self._meter.take(now_size - size + (self._rotated_bytes if is_rotated else 0))
        return not self._meter.is_open()

    def _look(self, path: Path) -> tuple[int, int]:
        with contextlib.suppress(OSError):
            status = path.stat()
            return status.st_ino, status.st_size
        return 0, 0


class Floods:
    """Looks once a second which agents flood their logs, in a thread of its own."""

    def __init__(self, parts: Parts, agents: Agents) -> None:
        """Work with the parts of one server; nothing happens before `start`."""
        self._limits = parts.settings.limits
        self._is_metered = parts.settings.supervisor.url is None
        self._state = parts.state
        self._store = parts.store
        self._processes = parts.processes
        self._agents = agents
        self._told: set[tuple[str, int | None]] = set()
        self._unstopped: set[tuple[str, int | None]] = set()
        self._growths: dict[tuple[str, int | None], Growth] = {}
        self._ended = threading.Event()
        self._stops = ThreadPoolExecutor(_STOPS_AT_ONCE, thread_name_prefix="flood")

    def start(self) -> None:
        """Begin to look."""
        threading.Thread(target=self._watch, name="floods", daemon=True).start()

    def close(self) -> None:
        """Stop looking."""
        self._ended.set()
        self._stops.shutdown(wait=False, cancel_futures=True)

    def look(self) -> None:
        """Look at every agent once, and do what follows."""
        flooding = set()
        runs = {}
        for program, process in self._processes.all().items():
            if not process.state.is_alive or agent_of_program(program) is None:
                continue
            run = program, process.pid
            runs[run] = process
            if self._floods(process):
                flooding.add(run)
        self._growths = {run: each for run, each in self._growths.items() if run in runs}
        while self._unstopped:
            self._told.discard(self._unstopped.pop())
        for run in flooding - self._told:
            self._tell(*run)
        for program, pid in self._told - flooding:
            if (program, pid) in runs and self._is_metered:
                name, _ = agent_of_program(program) or ("", 0)
                self._store.events.add(
                    EventKind.AGENT_LOG_RELEASED, name, f"{name} is no longer held up by its log"
                )
        self._told = flooding

    def _floods(self, process: Process) -> bool:
        if process.throttled_at is not None or self._is_metered:
            return process.throttled_at is not None
        run, limits = (process.program, process.pid), self._limits
        growth = self._growths.get(run)
        if growth is None:
            state, program = self._state, process.program
            self._growths[run] = Growth(
                (state.stdout_log(program), state.stderr_log(program)),
                Meter(limits.log_bytes_per_second, limits.log_burst_seconds),
                limits.log_bytes,
            )
            return False
        return growth.is_flood()

    def _watch(self) -> None:
        while not self._ended.wait(_LOOK_SECONDS):
            try:
                self.look()
            except Exception:  # noqa: BLE001 - one bad agent must not blind us for the others
                _log.exception("cannot look at how logs grow")

    def _tell(self, program: str, pid: int | None) -> None:
        name, _ = agent_of_program(program) or ("", 0)
        pace = f"{size_text(self._limits.log_bytes_per_second)} a second"
        if self._is_metered and self._limits.log_flood == "throttle":
            self._store.events.add(
                EventKind.AGENT_LOG_THROTTLED,
                name,
                f"{name} floods its log: it is held up to {pace} and waits in its writes",
            )
        else:
            sentence = f"{name} is stopped: it floods its log with more than {pace}"
            self._stops.submit(self._stop, name, sentence, (program, pid))

    def _stop(self, name: str, sentence: str, run: tuple[str, int | None]) -> None:
        try:
            self._agents.stop_over_limit(name, sentence, run=run)
        except DeployerError as error:
            _log.warning("cannot stop %s: %s", name, error.detail)
            self._unstopped.add(run)

"""What supervisord last said about every process: fed by pushes, set right by full reads."""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

import psutil

from deployer.model import Process

_SURE_SECONDS: Final = 0.25

Observer = Callable[[Process | None, Process], None]


class ProcessTable:
    """The latest known process of each program.

    Pushes arrive within milliseconds but may be lost; a full read is never wrong but costs an
    XML-RPC call. So readers take what is in the table, and whoever waits has it read anew now and
    then.
    """

    def __init__(
        self,
        read: Callable[[], Mapping[str, Process]],
        read_one: Callable[[str], Process | None],
    ) -> None:
        """Fill the table from supervisord.

        Args:
            read: One full read of all states.
            read_one: A read of one program's; None: supervisord does not know it.
        """
        self._read = read
        self._read_one = read_one
        self._processes: dict[str, Process] = {}
        self._changed = threading.Condition()
        self._reading = threading.Lock()
        self._pushed: dict[str, Process] = {}  # since the last full read began
        self._generation = 0
        self._read_at: float | None = None
        self._observers: list[Observer] = []

    def observe(self, observer: Observer) -> None:
        """Call observer with what was and what is at each change.

        It is called before anybody else can see the change, and must return at once.
        """
        self._observers.append(observer)

    @property
    def generation(self) -> int:
        """Count of changes so far."""
        return self._generation

    @property
    def read_at(self) -> float | None:
        """When all states were last read, in monotonic seconds; None before."""
        return self._read_at

    def get(self, program: str) -> Process | None:
        """Tell what is known of a program; None when supervisord does not know it.

        Whatever is told here, the observers know already.
        """
        with self._changed:
            return self._processes.get(program)

    def all(self) -> dict[str, Process]:
        """Tell what is known of all programs; the caller may keep the dictionary."""
        with self._changed:
            return dict(self._processes)

    def receive(self, process: Process) -> None:
        """Take a pushed state in, unless a full read has overtaken it on its way."""
        with self._changed:
            known = self._processes.get(process.program)
            if known is not None and process.told_at < known.told_at:
                return
            self._pushed[process.program] = process
            if known != process:
                self._tell(known, process)
                self._generation += 1
                self._changed.notify_all()
            self._processes[process.program] = process

    def look_up(self, program: str) -> Process | None:
        """Read the state of one program anew, and tell it.

        Raises:
            SupervisordUnreachableError: No answer; the table stays as it was.
        """
        known = self.get(program)
        process = self._read_one(program)
        if process is not None:
            self.receive(process)
            return self.get(program)
        with self._changed:
            # else it was made known while the answer travelled
            if known is not None and self._processes.get(program) is known:
                del self._processes[program]
                self._pushed.pop(program, None)
                self._generation += 1
                self._changed.notify_all()
        return None

    def refresh(self) -> None:
        """Read all states anew.

        A push that arrives while the answer travels wins, unless the answer was given after it.

        Raises:
            SupervisordUnreachableError: No answer; the table stays as it was.
        """
        with self._reading:
            with self._changed:
                self._pushed = {}
            read = dict(self._read())
            self._read_at = time.monotonic()
            with self._changed:
                newer = {
                    program: process
                    for program, process in self._pushed.items()
                    if program not in read or process.told_at >= read[program].told_at
                }
                self._replace({**read, **newer})

    def _replace(self, after: dict[str, Process]) -> None:
        before, self._processes = self._processes, after
        changes = [
            (before.get(program), process)
            for program, process in after.items()
            if before.get(program) != process
        ]
        if changes or len(after) != len(before):
            for was, process in changes:
                self._tell(was, process)
            self._generation += 1
            self._changed.notify_all()

    def _tell(self, was: Process | None, process: Process) -> None:
        for observer in self._observers:
            observer(was, process)

    def wait(
        self, program: str, until: Callable[[Process | None], bool], *, timeout_seconds: float
    ) -> bool:
        """Wait until a program's process is as asked.

        Args:
            program: Which program.
            until: Tells whether the process is as it should be.
            timeout_seconds: The longest wait.

        Returns:
            False when the time was over first.
        """
        deadline = time.monotonic() + timeout_seconds
        while True:
            with self._changed:
                pause = min(_SURE_SECONDS, max(0.0, deadline - time.monotonic()))
                if self._changed.wait_for(lambda: until(self._processes.get(program)), pause):
                    return True
            self.look_up(program)
            if time.monotonic() >= deadline:
                return until(self.get(program))


def is_running(pid: int) -> bool:
    """Tell from the kernel whether a process runs: one that only waits to be reaped does not."""
    with suppress(OSError, AttributeError):  # AttributeError: not Linux
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            return False
        try:
            ended = select.poll()
            ended.register(descriptor, select.POLLIN)
            return not ended.poll(0)
        finally:
            os.close(descriptor)
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False

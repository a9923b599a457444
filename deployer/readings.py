"""The last answer of each running process to its health check."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import datetime

from deployer.model import Answer, Process


@dataclass(frozen=True, slots=True)
class Reading:
    """What is known of one process's health.

    Attributes:
        pid: The process that was asked; a reading of another process says nothing of this one.
        answer: What it answered last.
        checked_at: When it was asked.
        bad_answers: How many of the last answers in a row were bad; an agent that says itself that
            it is degraded gives none.
        was_healthy: Whether this process was healthy at least once.
    """

    pid: int
    answer: Answer
    checked_at: datetime
    bad_answers: int
    was_healthy: bool


class Readings:
    """The latest reading of each program."""

    def __init__(self) -> None:
        """Begin with nothing known."""
        self._readings: dict[str, Reading] = {}
        self._lock = threading.Lock()
        self._generation = 0
        self._turns = 0

    @property
    def generation(self) -> int:
        """Count of readings so far."""
        return self._generation

    @property
    def turns(self) -> int:
        """Count of readings so far that a status could show: unlike those before them."""
        return self._turns

    def record(self, process: Process, answer: Answer, *, checked_at: datetime) -> Reading:
        """Take an answer in and count the bad ones in a row."""
        pid = process.pid or 0
        with self._lock:
            last = self._readings.get(process.program)
            if last is not None and last.pid != pid:
                last = None
            reading = Reading(
                pid=pid,
                answer=answer,
                checked_at=checked_at,
                bad_answers=0
                if answer.healthy or answer.degraded
                else (last.bad_answers if last else 0) + 1,
                was_healthy=answer.healthy or (last is not None and last.was_healthy),
            )
            self._readings[process.program] = reading
            self._generation += 1
            self._turns += last is None or _verdict(last) != _verdict(reading)
            return reading

    def of(self, process: Process | None) -> Reading | None:
        """Give the reading of this very process; None when it was not asked yet."""
        if process is None or process.pid is None:
            return None
        reading = self._readings.get(process.program)
        return reading if reading is not None and reading.pid == process.pid else None

    def forget(self, program: str) -> None:
        """Forget a program that is no more."""
        with self._lock:
            if self._readings.pop(program, None) is not None:
                self._generation += 1
                self._turns += 1


def _verdict(reading: Reading) -> tuple[bool, bool, bool]:
    """Give all of a reading that a status depends on."""
    return reading.answer.healthy, reading.answer.degraded, reading.was_healthy

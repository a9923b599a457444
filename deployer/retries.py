"""When an agent that would not stay up is tried again: slowly, more slowly each time, for ever."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

_FIRST_SECONDS: Final = 15.0
_LONGEST_SECONDS: Final = 600.0
_JITTER: Final = 0.1


@dataclass(frozen=True, slots=True)
class Retry:
    """How often an agent has failed, and when it is tried again.

    Attributes:
        failures: In a row.
        next_at: Not before then.
        is_crash_loop: It came up before, and then died again and again.
    """

    failures: int
    next_at: datetime
    is_crash_loop: bool


class Retries:
    """The retry of each agent that has failed since it was last well or somebody acted on it."""

    def __init__(self, jitter: Callable[[], float] = random.random) -> None:
        """Begin with no failure.

        Args:
            jitter: Gives a number from 0 to 1, so that agents which fail together do not come back
                together.
        """
        self._jitter = jitter
        self._retries: dict[str, Retry] = {}
        self._lock = threading.Lock()
        self._generation = 0

    @property
    def generation(self) -> int:
        """Count of changes so far."""
        return self._generation

    def record_failure(self, agent: str, at: datetime, *, is_crash_loop: bool = False) -> Retry:
        """Count a failure and say when to try again: after 15 s, 30 s, 60 s ... 10 minutes."""
        with self._lock:
            last = self._retries.get(agent)
            failures = 1 + (last.failures if last is not None else 0)
            seconds = min(_FIRST_SECONDS * 2 ** min(failures - 1, 10), _LONGEST_SECONDS)
            seconds *= 1 + _JITTER * (2 * self._jitter() - 1)
            retry = Retry(
                failures,
                at + timedelta(seconds=seconds),
                is_crash_loop or (last is not None and last.is_crash_loop),
            )
            self._retries[agent] = retry
            self._generation += 1
            return retry

    def of(self, agent: str) -> Retry | None:
        """Give an agent's retry; None when nothing is to be retried."""
        return self._retries.get(agent)

    def forget(self, agent: str) -> None:
        """Let an agent begin anew: it is well, or somebody acted on it."""
        with self._lock:
            if self._retries.pop(agent, None) is not None:
                self._generation += 1

"""A meter of bytes over time: so many a second for good, and more for a while."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

_STEP_SECONDS: Final = 0.1
"""Once it is empty a meter opens only with this much to give, so that nobody wakes for a byte."""


class Meter:
    """A token bucket: it fills at a rate, and what passes empties it."""

    def __init__(
        self,
        bytes_per_second: int,
        burst_seconds: float,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin full.

        Args:
            bytes_per_second: What may pass for good.
            burst_seconds: For how long as much again may pass: twice the rate for so many seconds,
                or eleven times the rate for a tenth of them.
            clock: Tells the time in seconds.
        """
        self._rate = bytes_per_second
        self._most = max(bytes_per_second * burst_seconds, bytes_per_second * _STEP_SECONDS)
        self._clock = clock
        self._left = self._most
        self._filled_at = clock()
        self._is_empty = False

    def take(self, size_bytes: int) -> None:
        """Count what has passed, also when it was more than there was to give."""
        self._fill()
        self._left -= size_bytes
        if self._left <= 0:
            self._is_empty = True

    def is_open(self) -> bool:
        """Tell whether more may pass now."""
        return self.seconds_until_open() <= 0

    def is_full(self) -> bool:
        """Tell whether so little has passed for a while that all is forgotten."""
        self._fill()
        return self._left >= self._most

    def seconds_until_open(self) -> float:
        """Tell when more may pass; 0: now."""
        self._fill()
        if not self._is_empty:
            return 0.0
        missing = self._rate * _STEP_SECONDS - self._left
        if missing <= 0:
            self._is_empty = False
            return 0.0
        return missing / self._rate

    def _fill(self) -> None:
        now = self._clock()
        self._left = min(self._most, self._left + (now - self._filled_at) * self._rate)
        self._filled_at = now

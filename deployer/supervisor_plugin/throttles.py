"""Log floods: an agent that prints without end is read no faster than its log may grow.

Its pipe fills, it waits in its next write, and neither supervisord's one thread nor the disk is
busy with it. Nothing is lost but its time.
"""

from __future__ import annotations

import time
from typing import Any

from deployer.limits.meters import Meter


class Throttle:
    """How fast the output of one process is read; both streams together.

    Attributes:
        throttled_at: Since when it is held up, as seconds since 1970; None while it is not.
    """

    def __init__(self, bytes_per_second: int, burst_seconds: float) -> None:
        """Read so much; a rate of 0 means any."""
        self._meter = Meter(bytes_per_second, burst_seconds) if bytes_per_second else None
        self.throttled_at: float | None = None

    def attach(self, dispatcher: Any) -> None:
        """Put one of supervisord's output dispatchers under this throttle."""
        readable, record_output = dispatcher.readable, dispatcher.record_output

        def is_readable() -> bool:
            return bool(readable()) and self.is_open()

        def record() -> None:
            self.count(len(dispatcher.output_buffer))
            record_output()

        dispatcher.readable, dispatcher.record_output = is_readable, record

    def count(self, size_bytes: int) -> None:
        """Count what was read."""
        if self._meter is not None:
            self._meter.take(size_bytes)

    def is_open(self) -> bool:
        """Tell whether more may be read now."""
        return self._meter is None or self._meter.is_open()

    def has_changed(self) -> bool:
        """Look whether the process is held up now and was not, or the other way round.

        It counts as held up until it has been quiet enough for its burst to be whole again.
        """
        if self._meter is None:
            return False
        if self.throttled_at is None and not self._meter.is_open():
            self.throttled_at = time.time()
            return True
        if self.throttled_at is not None and self._meter.is_full():
            self.throttled_at = None
            return True
        return False

    def seconds_until_open(self) -> float | None:
        """Tell when reading goes on; None: it was never interrupted."""
        if self._meter is None or self._meter.is_open():
            return None
        return self._meter.seconds_until_open()

    def lift(self) -> None:
        """Let everything through from now on: the process has ended, and its last words are due."""
        self._meter = None
        self.throttled_at = None

"""A log followed by reading its end again and again, where the server does not stream it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from deployer.errors import ServerUnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

WINDOW_LINES: Final = 1000
"""How many lines are read each time: more than are written between two readings, as a rule."""

_PAUSE_SECONDS: Final = 1.0
_AWAY_SECONDS: Final = 30.0


def follow(read: Callable[[int], Sequence[str]], tail: int) -> Iterator[str]:
    """Give the last lines of a log and then each new one, until the caller stops asking.

    Args:
        read: Gives the last lines of the log, at most so many.
        tail: How many lines to begin with.

    Raises:
        ServerUnreachableError: The server stays away for longer than half a minute.
        DeployerError: The server's own error.
    """
    size = max(tail, WINDOW_LINES)
    before = read(size)
    yield from before[max(0, len(before) - tail) :]
    read_at = time.monotonic()
    while True:
        time.sleep(_PAUSE_SECONDS)
        try:
            now = read(size)
        except ServerUnreachableError:
            if time.monotonic() - read_at > _AWAY_SECONDS:
                raise
            continue
        read_at = time.monotonic()
        yield from newer(before, now)
        before = now


def newer(before: Sequence[str], now: Sequence[str]) -> Sequence[str]:
    """Tell which lines at the end of a log came since it was read before.

    Both are the end of the log, as far as a window reached. A log that was rotated meanwhile, or
    grew by more than the window, has nothing in common with before, so all of it is new. A window
    full of one and the same line cannot be told from a log that stands still.
    """
    for gone in range(len(before)):
        kept = len(before) - gone
        if before[gone:] == now[:kept]:
            return now[kept:]
    return now

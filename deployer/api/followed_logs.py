"""Logs as they grow, for people who look on: read from disk, never through supervisord."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from deployer.api import streams
from deployer.api.services import Waiting
from deployer.errors import DeployerError
from deployer.logs import Follower

FOLLOW_SECONDS: Final = 120.0
RECHECK_SECONDS: Final = 5.0
"""How long a key that was revoked still reads."""

_LINES: Final = 20
_PAUSE_SECONDS: Final = 0.25


class FollowedLog:
    """A log on its way to a client: until that one has left, and for two minutes at most.

    It holds a thread, so it takes a place among the held requests; `close`, which the server calls
    in any case, lets go of it. No more is read while much waits for a client that reads slowly, for
    the server would let the writer wait as long as that client likes.
    """

    def __init__(  # noqa: PLR0913 - each is given by its name
        self,
        path: Path,
        waiting: Waiting,
        is_gone: Callable[[], bool],
        *,
        who: str,
        unsent_bytes: Callable[[], int] = lambda: 0,
        redact: Callable[[list[str]], list[str]] = list,
        recheck: Callable[[], None] = lambda: None,
        seconds: float = FOLLOW_SECONDS,
    ) -> None:
        """Open a log.

        Args:
            path: The file that supervisord writes to.
            waiting: Places for held requests.
            is_gone: Tells that the client has left.
            who: Whose request it is.
            unsent_bytes: Counts what was written and not yet taken.
            redact: Takes out of lines what nobody may read in them.
            recheck: Raises once the client may not look on any more.
            seconds: The longest time.

        Raises:
            TooBusyError: As many requests as there may be are held already.
        """
        self._is_gone: Callable[[], bool] = lambda: waiting.is_closed or is_gone()
        self._unsent_bytes = unsent_bytes
        self._redact = redact
        self._recheck = recheck
        self._seconds = seconds
        with ExitStack() as undo:
            undo.enter_context(waiting.required_place(who))
            self._log = undo.enter_context(Follower(path, lines=_LINES))
            self._held = undo.pop_all()

    def __iter__(self) -> Iterator[bytes]:
        """Give blocks of whole lines, the last ones that were there already first."""
        # Nothing is sent before the first byte, not even a status, and a log may be silent.
        yield f"[the end of this log, and what is added within {self._seconds:.0f} s]\n".encode()
        checked_at = time.monotonic()
        deadline = checked_at + self._seconds

        def is_over() -> bool:
            return time.monotonic() >= deadline or self._is_gone()

        while streams.has_room(self._unsent_bytes, is_over) and not is_over():
            if time.monotonic() - checked_at >= RECHECK_SECONDS:
                try:
                    self._recheck()
                except DeployerError as error:  # the status is sent long since
                    yield f"[{error.detail}]\n".encode()
                    return
                checked_at = time.monotonic()
            lines = self._redact(self._log.read())
            if lines:
                yield "".join(f"{line}\n" for line in lines).encode()
            else:
                time.sleep(_PAUSE_SECONDS)

    def close(self) -> None:
        """Let go of the log and of the place."""
        self._held.close()

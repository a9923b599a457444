"""What one run of a program writes, kept to show why it failed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self

from deployer.logs import Follower

EVIDENCE_LINES: Final = 50
"""How much of a log is kept to show why something failed."""


class RunLog:
    """What one run of a program writes, from the moment this is opened on.

    Lines of earlier runs explain nothing, and would be taken for the cause of what comes now.
    """

    def __init__(
        self, stdout: Path, stderr: Path, *, redact: Callable[[list[str]], list[str]] = list
    ) -> None:
        """Begin at the end of both logs.

        Args:
            stdout: The file of one stream.
            stderr: That of the other.
            redact: Takes out of lines what nobody may read in them.
        """
        self._redact = redact
        self._followers = (Follower(stdout), Follower(stderr))
        self._lines: deque[str] = deque(maxlen=EVIDENCE_LINES)

    def __enter__(self) -> Self:
        """Follow within a with statement."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the files."""
        self.close()

    def close(self) -> None:
        """Close the files; reading is over."""
        for follower in self._followers:
            follower.close()

    def has_grown(self) -> bool:
        """Tell whether anything was written since this or `read` was called last."""
        fresh = [line for follower in self._followers for line in follower.read()]
        self._lines.extend(fresh)
        return bool(fresh)

    def read(self) -> list[str]:
        """Give the last 50 lines of this run; where both logs grew at once, standard error last."""
        self.has_grown()
        return self._redact(list(self._lines))

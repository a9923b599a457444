"""The exception that a log ends with, as Python prints it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

_TRACEBACK: Final = "Traceback (most recent call last):"
_FRAME: Final = re.compile(r'\s*File "([^"]+)", line (\d+)')
_GROUP_BORDER: Final = re.compile(r"^\s*[|+](?:-+(?: \d+ -+)?)? ?")
"""What Python draws left of the tracebacks within an ExceptionGroup."""

_DEPENDENCIES: Final = "/site-packages/"


@dataclass(frozen=True, slots=True)
class Raised:
    """The last exception in a log.

    Attributes:
        line: Such as ``ValueError: x``.
        frames: The lines of its traceback before.
    """

    line: str
    frames: tuple[str, ...]

    @property
    def place(self) -> str:
        """Where it was raised, such as ``main.py:12`` or ``numpy/core.py:7``; may be empty."""
        places = [match for match in map(_FRAME.match, self.frames) if match]
        if not places:
            return ""
        path, line = places[-1].groups()
        _, separator, within = path.rpartition(_DEPENDENCIES)
        return f"{within if separator else path.rpartition('/')[2]}:{line}"


def last_exception(lines: Iterable[str]) -> Raised | None:
    """Find the exception that a log ends with.

    A traceback may have lost its head to the limit of the tail, and that of a SyntaxError in the
    entry point has none; so a frame begins one as well.
    """
    last: Raised | None = None
    frames: list[str] | None = None
    for line in (_GROUP_BORDER.sub("", line) for line in lines):
        if _TRACEBACK in line:
            frames = []
        elif frames is None and _FRAME.match(line):
            frames = [line]
        elif frames is not None and (not line.strip() or line[0].isspace()):
            frames.append(line)
        elif frames is not None:
            last, frames = Raised(line.strip(), tuple(frames)), None
    return last

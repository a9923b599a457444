"""A cause in words, and what has to be known to find it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_STATUS_LINE_CHARACTERS: Final = 120


@dataclass(frozen=True, slots=True)
class Cause:
    """Why something is as it is, in words.

    Attributes:
        text: The cause, a few words without a full stop.
        hint: What to do about it; may be empty.
        code: A stable word for machines, such as ``address-in-use``.
    """

    text: str
    hint: str = ""
    code: str = "unknown"

    @property
    def short(self) -> str:
        """The text as a status line takes it: at most 120 printable ASCII characters."""
        plain = " ".join(self.text.split()).encode("ascii", "replace").decode()
        plain = "".join(character if character.isprintable() else "?" for character in plain)
        if len(plain) <= _STATUS_LINE_CHARACTERS:
            return plain
        return plain[: _STATUS_LINE_CHARACTERS - 3] + "..."


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What is known of a run beside how it ended and what it wrote.

    What costs a look is asked for only where the words of the run lead there.

    Attributes:
        port: The TCP port that it was told to bind.
        holder_of: Who listens on a port, such as ``pid 812 (nginx)``; empty when nobody does.
        memory_limit: Its limit in bytes; None when there is none.
        python: The version of its Python, such as ``3.12.4``; empty when nobody knows.
        refusal_of: Why it may not have a file, and whether it looked as if that were missing; None
            when nothing of ours keeps it from that.
        room: What is left on the disk where it may write, such as ``/var/lib/x has 0 bytes left``.
    """

    port: int
    holder_of: Callable[[int], str] = lambda _: ""
    memory_limit: int | None = None
    python: str = ""
    refusal_of: Callable[[Path, bool], Cause | None] = lambda _path, _is_missing: None
    room: Callable[[], str] = lambda: ""

"""The files of a log as supervisord rotates them, and places in them that outlive a reader.

`path` is written to; on rotation `path.1` becomes `path.2` and so on, then `path` becomes
`path.1`. A file only ever moves up, so a look from `path` upwards meets every one of them, even
while supervisord rotates; it may meet one twice, and find one name missing.
"""

from __future__ import annotations

import ctypes
import io
import os
import re
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

_MISSING_AT_END: Final = 2
"""One missing name may be a gap in mid-rotation; two in a row are the end."""

_POSITION: Final = re.compile(r"([0-9a-f]{1,16})-([0-9a-f]{1,24})-([0-9a-f]{1,15})")
_NANOSECONDS: Final = 10**9

# linux/stat.h and linux/fcntl.h; struct statx is the same on all architectures.
_AT_EMPTY_PATH: Final = 0x1000
_STATX_BTIME: Final = 0x800
_STATX_BYTES: Final = 256
_BTIME_OFFSET: Final = 80
_statx = getattr(ctypes.CDLL(None), "statx", None)


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a log: so many bytes into one of its files, whatever that is called by then.

    A number of an inode is given again as soon as its file is gone, and rotation deletes one file
    as it makes the next: only with the moment of its birth it names one file.

    Attributes:
        inode: Of the file.
        born: When the file was made, in nanoseconds since 1970; 0: its filesystem does not say.
        offset: Where the next line begins, in bytes.
    """

    inode: int
    born: int
    offset: int

    def __str__(self) -> str:
        """Write it for a client to give back."""
        return f"{self.inode:x}-{self.born:x}-{self.offset:x}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `__str__` wrote.

        Raises:
            ValueError: It is something else.
        """
        found = _POSITION.fullmatch(text)
        if found is None:
            raise ValueError(f"{text!r} is no position")
        return cls(*(int(each, 16) for each in found.groups()))


START: Final = Position(0, 0, 0)
"""The beginning of a log's oldest file; no file has the inode 0."""


class LogFile(io.FileIO):
    """A regular file, and which one and how long it was when it was opened."""

    def __init__(self, descriptor: int, status: os.stat_result) -> None:
        """Read from a descriptor, which is closed with this."""
        super().__init__(descriptor)
        self.identity = (status.st_dev, status.st_ino)
        self.size = status.st_size
        self.born = _birth_of(descriptor)
        self.follows_gap = False
        """Whether what was written between the file before and this one may be lost."""

    def position(self, offset: int) -> Position:
        """Name a place in it."""
        return Position(self.identity[1], self.born, offset)

    def holds(self, position: Position) -> bool:
        """Tell whether a position is a place in this very file, as long as it is now."""
        if self.identity[1] != position.inode or self.size < position.offset:
            return False
        return self.born == position.born


def _birth_of(descriptor: int) -> int:
    """Tell when a file was made, in nanoseconds since 1970; 0 where nobody knows."""
    born = getattr(os.fstat(descriptor), "st_birthtime", None)  # told on macOS only
    if born is not None:
        return int(born * _NANOSECONDS)
    buffer = ctypes.create_string_buffer(_STATX_BYTES)
    if _statx is None or _statx(descriptor, b"", _AT_EMPTY_PATH, _STATX_BTIME, buffer) != 0:
        return 0
    (known,) = struct.unpack_from("=I", buffer)
    seconds, nanoseconds = struct.unpack_from("=qI", buffer, _BTIME_OFFSET)
    return int(seconds * _NANOSECONDS + nanoseconds) if known & _STATX_BTIME else 0


def open_all(path: Path) -> Iterator[LogFile]:
    """Open a log and its rotated files, newest first, each once; the caller closes them.

    Files that are made meanwhile are left out. Two rotations between the first name and the next
    bring one under the next, where it would stand for an older one.
    """
    seen: set[tuple[int, int]] = set()
    missing = number = 0
    newest_born: int | None = None
    while missing < _MISSING_AT_END:
        file = _open(path.with_name(f"{path.name}.{number}") if number else path)
        number += 1
        if file is None:
            missing += 1
            continue
        missing = 0
        if newest_born is None:
            newest_born = file.born
        if file.identity in seen or file.born > newest_born:
            file.close()
            continue
        seen.add(file.identity)
        yield file


def _open(path: Path) -> LogFile | None:
    """Open a log, if it is a regular file: a FIFO would hang us, a symlink show any file."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return None
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    return LogFile(descriptor, os.fstat(descriptor))

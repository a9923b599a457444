"""Log files as supervisord writes and rotates them: read from disk, never through its RPC.

`path` is written to; on rotation `path.1` becomes `path.2` and so on, then `path` becomes
`path.1`. A file only ever moves up, so a look from `path` upwards meets every one of them, even
while supervisord rotates; it may meet one twice, and find one name missing.
"""

from __future__ import annotations

import io
import os
import re
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Self

EVIDENCE_LINES: Final = 50
"""How much of a log is kept to show why something failed."""

_READ_BYTES: Final = 1024 * 1024
_BLOCK_BYTES: Final = 64 * 1024
_LINE_BYTES: Final = 64 * 1024
"""Longer lines are handed out in parts, or an agent that never ends a line would fill memory."""

_MISSING_AT_END: Final = 2
"""One missing name may be a gap in mid-rotation; two in a row are the end."""

_UNPRINTABLE: Final = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # a terminal's colours and cursor moves, whole
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"  # its window titles and links
    r"|[\x00-\x08\x0a-\x1f\x7f-\x9f]"  # every control character left but the tab
)


def tail(path: Path, lines: int, *, max_bytes: int = _READ_BYTES) -> list[str]:
    """Read the last lines of a log, going on into its rotated files when it is too short.

    Args:
        path: The file that supervisord writes to now.
        lines: How many to give at most.
        max_bytes: How much to read at most; a line cut by this limit is left out, unless there is
            no other.

    Returns:
        Lines without their end, oldest first, and without control characters; bytes that are not
        UTF-8 are replaced. The last may be unfinished. Empty when there is no log.
    """
    if lines <= 0:
        return []
    with ExitStack() as closing:
        files = (closing.enter_context(opened) for opened in _open_all(path))
        whole, rest = _last_lines(files, lines, max_bytes)
    return [_text(line) for line in [*whole, *filter(None, [rest])][-lines:]]


class Follower:
    """Reads on in a log where it stopped, across rotations, and loses no line.

    The file in hand stays open: it is read to its end even when its name is gone, and its inode
    number is given to no other file meanwhile. So supervisord may rotate between two reads as often
    as it keeps backups; let it keep two at least.
    """

    def __init__(self, path: Path, *, lines: int = 0) -> None:
        """Begin at the end of the log, or some lines before it.

        Args:
            path: The file that supervisord writes to; it need not exist yet.
            lines: With how many of the lines that are there already to begin.
        """
        self._path = path
        files = list(_open_all(path))
        self._ready, self._rest = _last_lines(files, lines, _READ_BYTES)
        for older in files[1:]:
            older.close()
        for newest in files[:1]:
            newest.seek(newest.size)
        self._files = deque(files[:1])

    def __enter__(self) -> Self:
        """Follow within a with statement."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close what is open."""
        self.close()

    def close(self) -> None:
        """Let go of the files; reading is over."""
        while self._files:
            self._files.pop().close()

    def read(self) -> list[str]:
        """Read the lines that were finished since the last read; never waits.

        Returns:
            At most some 1 MiB of lines, as `tail` gives them; more are there at once if the log
            grows faster than that. Empty when nothing was finished.
        """
        if len(self._files) <= 1:  # or a log that outruns us would have us hold ever more files
            self._find_newer()
        data = bytearray(self._rest)
        budget = _READ_BYTES
        while self._files and budget > 0:
            block = self._files[0].read(min(budget, _BLOCK_BYTES))
            data += block
            budget -= len(block)
            if not block and len(self._files) == 1:
                break
            if not block:
                self._files.popleft().close()
        *whole, rest = bytes(data).split(b"\n")
        while len(rest) >= _LINE_BYTES:
            whole.append(rest[:_LINE_BYTES])
            rest = rest[_LINE_BYTES:]
        ready = [*self._ready, *whole]
        self._ready, self._rest = [], rest
        return [_text(line) for line in ready]

    def _find_newer(self) -> None:
        """Queue the files that came after the one in hand.

        Looked for before the one in hand is read: if there is a newer one then, nothing more is
        written to it, and its end is its end.
        """
        current = self._files[-1] if self._files else None
        newer: list[_LogFile] = []
        for file in _open_all(self._path):
            if current is not None and file.identity == current.identity:
                file.close()
                if file.size < current.tell():  # truncated in place: it begins anew
                    current.seek(0)
                break
            newer.append(file)
        self._files.extend(reversed(newer))


class _LogFile(io.FileIO):
    """A regular file, and which one and how long it was when it was opened."""

    def __init__(self, descriptor: int, status: os.stat_result) -> None:
        super().__init__(descriptor)
        self.identity = (status.st_dev, status.st_ino)
        self.size = status.st_size


def _open_all(path: Path) -> Iterator[_LogFile]:
    """Open a log and its rotated files, newest first, each once; the caller closes them."""
    seen: set[tuple[int, int]] = set()
    missing = number = 0
    while missing < _MISSING_AT_END:
        file = _open(path.with_name(f"{path.name}.{number}") if number else path)
        number += 1
        if file is None:
            missing += 1
            continue
        missing = 0
        if file.identity in seen:
            file.close()
            continue
        seen.add(file.identity)
        yield file


def _open(path: Path) -> _LogFile | None:
    """Open a log, if it is a regular file: a FIFO would hang us, a symlink show any file."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return None
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    return _LogFile(descriptor, os.fstat(descriptor))


def _last_lines(files: Iterable[_LogFile], lines: int, max_bytes: int) -> tuple[list[bytes], bytes]:
    """Read the last finished lines out of files, newest first, and what follows the last of them.

    Only what was there when the files were opened is read.
    """
    data, at_border = _last_bytes(files, lines, max_bytes)
    *whole, rest = data.split(b"\n")
    if not at_border and (rest or len(whole) > 1):
        del whole[:1]
    return whole[len(whole) - min(lines, len(whole)) :], rest


def _last_bytes(files: Iterable[_LogFile], lines: int, max_bytes: int) -> tuple[bytes, bool]:
    """Join the ends of files until they hold so many lines; tell if a line begins at the join's."""
    data = b""
    for file in files:
        position = file.size
        while position:
            # One line end more than lines: the first of them ends the line before.
            if data.count(b"\n") > lines or len(data) >= max_bytes:
                return data, False
            size = min(position, _BLOCK_BYTES, max_bytes - len(data))
            position = file.seek(position - size)
            data = file.read(size) + data
    return data, True


def _text(line: bytes) -> str:
    return _UNPRINTABLE.sub("", line.decode(errors="replace"))


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

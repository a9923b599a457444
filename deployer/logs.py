"""Logs as supervisord writes and rotates them: read from disk, never through its RPC."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Self

from deployer.log_files import START, LogFile, Position, open_all

_READ_BYTES: Final = 1024 * 1024
_BLOCK_BYTES: Final = 64 * 1024
_LINE_BYTES: Final = 64 * 1024
"""Longer lines are handed out in parts, or an agent that never ends a line would fill memory."""

_OPEN_FILES: Final = 4
"""How many files of a log are held open at once: the one in hand, and what came right after it."""

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
        files = (closing.enter_context(opened) for opened in open_all(path))
        whole, rest = _last_lines(files, lines, max_bytes)
    return [_text(line) for line in [*whole, *filter(None, [rest])][-lines:]]


class Follower:
    """Reads on in a log where it stopped, across rotations, and loses no line.

    The file in hand stays open: it is read to its end even when its name is gone, and its inode
    number is given to no other file meanwhile. So supervisord may rotate between two reads as often
    as it keeps backups; let it keep two at least. Where it rotated more often, that is told.

    Attributes:
        has_gap: Lines may be missing before those that were read last.
        position: Where the first line begins that was not given yet.
    """

    def __init__(self, path: Path, *, lines: int = 0, after: Position | None = None) -> None:
        """Begin at the end of the log, or some lines before it, or where a reader was once.

        Args:
            path: The file that supervisord writes to; it need not exist yet.
            lines: With how many of the lines that are there already to begin.
            after: Where to go on instead. If that place is gone: at the oldest line that is there,
                which is then told as a gap.
        """
        self._path = path
        self._files: deque[LogFile] = deque()
        self._ready: list[bytes] = []
        self._pieces: deque[tuple[LogFile, int, int]] = deque()
        """Where the bytes of `_rest` come from: a file, an offset, and how many."""
        self._rest = b""
        self.has_gap = False
        self.position = START
        if after is None:
            self._begin_at_end(lines)
        else:
            self._begin_after(after)

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

    def begin(self) -> list[str]:
        """Give the lines that it begins with, and read nothing."""
        ready, self._ready = self._ready, []
        return [_text(line) for line in ready]

    @property
    def unfinished(self) -> str:
        """What was written of the line that is not finished yet; `read` gives it when it is."""
        return _text(self._rest)

    def read(self, max_bytes: int = _READ_BYTES) -> list[str]:
        """Read the lines that were finished since the last read; never waits.

        Args:
            max_bytes: How much to read, about; more is there at once if the log grows faster.

        Returns:
            Lines as `tail` gives them. Empty when nothing was finished.
        """
        if len(self._files) <= 1:  # or a log that outruns us would have us hold ever more files
            self._find_newer()
        ready = self.begin()
        self.has_gap = False
        data, budget = bytearray(self._rest), max_bytes
        while self._files and budget > 0:
            file = self._files[0]
            if file.follows_gap:
                if ready or data:
                    break  # what comes before the gap is given first
                file.follows_gap, self.has_gap = False, True
            offset = file.tell()
            block = file.read(min(budget, _BLOCK_BYTES))
            if block:
                data += block
                budget -= len(block)
                self._pieces.append((file, offset, len(block)))
            elif len(self._files) == 1:
                break
            else:
                self._files.popleft().close()
        whole, self._rest = _split(bytes(data))
        if self._files and self._files[0].follows_gap and self._rest:
            whole.append(self._rest)  # its end is lost
            self._rest = b""
        self._keep(len(self._rest))
        return [*ready, *(_text(line) for line in whole)]

    def _begin_at_end(self, lines: int) -> None:
        files = list(open_all(self._path))
        self._ready, self._rest = _last_lines(files, lines, _READ_BYTES)
        left = len(self._rest)
        for file in files:
            if left or not self._pieces:
                size = min(left, file.size)
                self._pieces.appendleft((file, file.size - size, size))
                left -= size
        for older in files[1:]:
            older.close()
        for newest in files[:1]:
            newest.seek(newest.size)
            self._files.append(newest)
        self._keep(len(self._rest))

    def _begin_after(self, position: Position) -> None:
        newer, found = self._newer_than(lambda file: file.holds(position))
        self.position = position
        if found is not None:
            found.seek(position.offset)
            newer.appendleft(found)
        elif newer and position != START:
            newer[0].follows_gap = True
        self._files = newer

    def _keep(self, size: int) -> None:
        """Forget where bytes came from but the last so many, and note where those begin."""
        held = sum(length for *_, length in self._pieces)
        while self._pieces:
            file, offset, length = self._pieces[0]
            used = min(held - size, length)
            held -= used
            self.position = file.position(offset + used)
            if used < length:
                self._pieces[0] = file, offset + used, length - used
                return
            self._pieces.popleft()

    def _find_newer(self) -> None:
        """Queue the files that came after the one in hand.

        Looked for before the one in hand is read: if there is a newer one then, nothing more is
        written to it, and its end is its end.
        """
        current = self._files[-1] if self._files else None
        newer, found = self._newer_than(
            lambda file: current is not None and file.identity == current.identity
        )
        if found is not None and current is not None:
            found.close()
            if found.size < current.tell():  # truncated in place: it begins anew
                current.seek(0)
        elif current is not None and newer:
            newer[0].follows_gap = True  # it went out of the backups; so may have others
        self._files.extend(newer)

    def _newer_than(
        self, is_known: Callable[[LogFile], bool]
    ) -> tuple[deque[LogFile], LogFile | None]:
        """Open the first few files after a known one, oldest first, and that one if it is there."""
        newer: deque[LogFile] = deque()
        for file in open_all(self._path):
            if is_known(file):
                return newer, file
            newer.appendleft(file)
            if len(newer) > _OPEN_FILES:
                newer.pop().close()
        return newer, None


def _split(data: bytes) -> tuple[list[bytes], bytes]:
    """Split bytes into lines and what follows the last line end; what is too long, into parts."""
    *whole, rest = data.split(b"\n")
    while len(rest) >= _LINE_BYTES:
        end = _LINE_BYTES
        while end > _LINE_BYTES - 4 and rest[end : end + 1] and rest[end] & 0xC0 == 0x80:  # noqa: PLR2004 - UTF-8's continuation bytes, three of them at most
            end -= 1
        whole.append(rest[:end])
        rest = rest[end:]
    return whole, rest


def _last_lines(files: Iterable[LogFile], lines: int, max_bytes: int) -> tuple[list[bytes], bytes]:
    """Read the last finished lines out of files, newest first, and what follows the last of them.

    Only what was there when the files were opened is read.
    """
    data, at_border = _last_bytes(files, lines, max_bytes)
    *whole, rest = data.split(b"\n")
    if not at_border and (rest or len(whole) > 1):
        del whole[:1]
    return whole[len(whole) - min(lines, len(whole)) :], rest


def _last_bytes(files: Iterable[LogFile], lines: int, max_bytes: int) -> tuple[bytes, bool]:
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

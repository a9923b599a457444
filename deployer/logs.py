"""Logs as supervisord writes and rotates them: read from disk, never through its RPC."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Final, NamedTuple, Self

from deployer.log_files import START, LogFile, Position, open_all
from deployer.redactions import CutLine

_READ_BYTES: Final = 1024 * 1024
_BLOCK_BYTES: Final = 64 * 1024
_LINE_BYTES: Final = 64 * 1024
"""Longer lines are handed out in parts, or an agent that never ends a line would fill memory."""

_LONGEST_CHARACTER: Final = 4
"""How many bytes UTF-8 takes at most; a part of a line may be that much shorter."""

_OPEN_FILES: Final = 4
"""How many files of a log are held open at once: the one in hand, and what came right after it."""

_LOOKS: Final = 3
"""How often a file is looked for before it counts as rotated away."""

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
        UTF-8 are replaced. The last may be unfinished. Empty when there is no log. A line that may
        not be whole is marked as a `CutLine`.
    """
    if lines <= 0:
        return []
    with ExitStack() as closing:
        files = (closing.enter_context(opened) for opened in open_all(path))
        last = _last_lines(files, lines, max_bytes)
    found = _texts(last.lines, lacks_start=last.lacks_start)
    if last.rest:
        lacks_start = last.lacks_start and not found
        found.append(_text(last.rest, lacks_start=lacks_start, lacks_end=True))
    return found[-lines:]


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
            after: Where to go on instead. A place within a line, which only a very long one gives
                out, is its beginning if it is near. If the place is gone: at the oldest line that
                is there, which is then told as a gap.
        """
        self._path = path
        self._files: deque[LogFile] = deque()
        self._ready: list[str] = []
        self._pieces: deque[tuple[LogFile, int, int]] = deque()
        """Where the bytes of `_rest` come from: a file, an offset, and how many."""
        self._rest = b""
        self._lacks_start = False
        """Whether what comes next may not be the beginning of a line."""
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
        return ready

    @property
    def unfinished(self) -> str:
        """What was written of the line that is not finished yet; `read` gives it when it is."""
        return _text(self._rest, lacks_start=self._lacks_start, lacks_end=True)

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
                file.follows_gap, self.has_gap, self._lacks_start = False, True, True
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
        whole, parts, self._rest = _split(bytes(data))
        if self._files and self._files[0].follows_gap and self._rest:
            parts.append(self._rest)  # its end is lost
            self._rest = b""
        self._keep(len(self._rest))
        ready += _texts(whole, lacks_start=self._lacks_start)
        self._lacks_start = self._lacks_start and not whole
        for part in parts:
            ready.append(_text(part, lacks_start=self._lacks_start, lacks_end=True))
            self._lacks_start = True
        return ready

    def _begin_at_end(self, lines: int) -> None:
        files = list(open_all(self._path))
        last = _last_lines(files, lines, _READ_BYTES)
        self._ready, self._rest = _texts(last.lines, lacks_start=last.lacks_start), last.rest
        self._lacks_start = last.lacks_start and not last.lines
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
            offset, self._lacks_start = self._beginning_of_line(found, position.offset)
            self.position = found.position(offset)
            found.seek(offset)
            newer.appendleft(found)
        elif position == START:
            self._lacks_start = len(newer) > 1
        elif newer:
            newer[0].follows_gap = True
        self._files = newer

    def _beginning_of_line(self, file: LogFile, offset: int) -> tuple[int, bool]:
        """Give the beginning of the line of a place, if it is near; and else, that it is not.

        Clients bring places back, and may have chosen them: within a line, and within what nobody
        may read in it. Places that were given out lie within lines that go on for longer than this.

        Returns:
            An offset, and whether it may lie within a line.
        """
        near = min(offset, _LINE_BYTES - _LONGEST_CHARACTER)
        file.seek(offset - near)
        before = file.read(near)
        end = before.rfind(b"\n")
        if end >= 0:
            return offset - len(before) + end + 1, False
        if near == offset and not _is_rotated(self._path):
            return 0, False
        return offset, True

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
        """Open the first few files after a known one, oldest first, and that one if it is there.

        Who looks slowly while a log is rotated several times may take two names that are missing
        for the end, so nothing is gone before it was looked for again.
        """
        newer: deque[LogFile] = deque()
        for _ in range(_LOOKS):
            while newer:
                newer.pop().close()
            for file in open_all(self._path):
                if is_known(file):
                    return newer, file
                newer.appendleft(file)
                if len(newer) > _OPEN_FILES:
                    newer.pop().close()
            if not newer:
                break
        return newer, None


class _Last(NamedTuple):
    """The last lines of a log, and what follows them; `lacks_start` tells of the first of these."""

    lines: list[bytes]
    rest: bytes
    lacks_start: bool


def _split(data: bytes) -> tuple[list[bytes], list[bytes], bytes]:
    """Split bytes into lines, parts of the line after them that is too long, and what is left."""
    *whole, rest = data.split(b"\n")
    parts = []
    while len(rest) >= _LINE_BYTES:
        end = _LINE_BYTES
        while end > _LINE_BYTES - _LONGEST_CHARACTER and _goes_on(rest[end : end + 1]):
            end -= 1
        parts.append(rest[:end])
        rest = rest[end:]
    return whole, parts, rest


def _goes_on(byte: bytes) -> bool:
    """Tell whether a byte goes on with a character of UTF-8."""
    return bool(byte) and byte[0] & 0xC0 == 0x80  # noqa: PLR2004 - 0b10 in front marks those


def _last_lines(files: Iterable[LogFile], lines: int, max_bytes: int) -> _Last:
    """Read the last finished lines out of files, newest first, and what follows the last of them.

    Only what was there when the files were opened is read.
    """
    data, files_read = _last_bytes(files, lines, max_bytes)
    *whole, rest = data.split(b"\n")
    is_cut = files_read == 0
    if is_cut and (rest or len(whole) > 1):
        is_cut = not whole
        del whole[:1]
    kept = whole[len(whole) - min(lines, len(whole)) :]
    # What came before the oldest of several files may have been rotated away.
    lacks_start = (is_cut or files_read > 1) and len(kept) == len(whole)
    return _Last(kept, rest, lacks_start)


def _last_bytes(files: Iterable[LogFile], lines: int, max_bytes: int) -> tuple[bytes, int]:
    """Join the ends of files until they hold so many lines.

    Returns:
        What they hold, and how many files that is; 0 where it begins within one of them.
    """
    data, files_read = b"", 0
    for file in files:
        position = file.size
        while position:
            # One line end more than lines: the first of them ends the line before.
            if data.count(b"\n") > lines or len(data) >= max_bytes:
                return data, 0
            size = min(position, _BLOCK_BYTES, max_bytes - len(data))
            position = file.seek(position - size)
            data = file.read(size) + data
        files_read += 1
    return data, files_read


def _is_rotated(path: Path) -> bool:
    with ExitStack() as closing:
        return len([closing.enter_context(opened) for opened in open_all(path)]) > 1


def _texts(lines: Iterable[bytes], *, lacks_start: bool) -> list[str]:
    """Read finished lines, the first of which may lack its beginning."""
    return [_text(line, lacks_start=lacks_start and not at) for at, line in enumerate(lines)]


def _text(line: bytes, *, lacks_start: bool = False, lacks_end: bool = False) -> str:
    text = _UNPRINTABLE.sub("", line.decode(errors="replace"))
    if lacks_start or lacks_end:
        return CutLine(text, lacks_start=lacks_start, lacks_end=lacks_end)
    return text

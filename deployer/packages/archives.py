"""ZIP archives that nobody has vouched for, taken only where every reader sees the same in them.

The parts of an archive must tile the file exactly, from the first byte to the last: no prefix, no
suffix, no gap, no overlap. Names must mean the same on every file system, sizes must be within the
limits. All of that is known before a byte is unpacked.
"""

from __future__ import annotations

import stat
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from deployer.errors import PackageInvalidError, Problem
from deployer.file_names import judge_name, judge_together, shown_name
from deployer.packages.zip_records import (
    SIZES_FOLLOW,
    UTF8_NAME,
    Record,
    ZipDamagedError,
    read_end,
    read_local,
    read_records,
)
from deployer.settings import LimitSettings

WHOLE: Final = "the ZIP"
"""The place of problems that concern no single entry."""

_STORED: Final = 0
_DEFLATED: Final = 8
_ENCRYPTED: Final = 0x0001 | 0x0040 | 0x2000  # traditional, strong, and a masked directory
_KNOWN_FLAGS: Final = 0x0006 | SIZES_FOLLOW | UTF8_NAME  # 0x0006: how hard deflate tried
_RATIO_FLOOR: Final = 10 * 1024**2  # bytes; less than that harms nobody
_MOST_PROBLEMS: Final = 50
_CHUNK: Final = 256 * 1024
_KINDS: Final = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One file or folder of an archive that breaks no rule.

    Attributes:
        name: A relative path of plain parts, without a slash at its end.
        is_folder: Whether it is a folder; folders hold no bytes.
        is_executable: Whether its owner may run it.
        is_deflated: Whether its content is compressed; stored as it is otherwise.
        checksum: CRC-32 of the content.
        packed_bytes: In the archive.
        size_bytes: Unpacked.
        content_offset: Where the packed content begins.
    """

    name: str
    is_folder: bool
    is_executable: bool
    is_deflated: bool
    checksum: int
    packed_bytes: int
    size_bytes: int
    content_offset: int


class Archive:
    """A ZIP file, open for reading, whose directory has been read and judged.

    Attributes:
        entries: What breaks no rule, in the order of the contents.
        problems: Every rule that is broken, at most 51; none: it may be unpacked.
    """

    def __init__(self, path: Path, limits: LimitSettings) -> None:
        """Read and judge the directory of a ZIP.

        Args:
            path: The file, which nobody changes meanwhile.
            limits: ``entries``, ``file_bytes``, ``total_bytes``, ``ratio`` and ``depth`` count.

        Raises:
            PackageInvalidError: It is no ZIP, or so damaged that nothing in it can be judged.
            OSError: The file cannot be read.
        """
        self._limits = limits
        self._file = path.open("rb")
        try:
            end = read_end(self._file, most_entries=limits.entries)
            records = read_records(self._file, end)
            broken, found = self._judge(records)
            entries, misplaced = self._lay_out(records, end.offset)
        except ZipDamagedError as error:
            self._file.close()
            problem = Problem(WHOLE, str(error))
            raise PackageInvalidError(
                f"cannot take the package: {error}", cause=str(error), problems=[problem]
            ) from error
        except BaseException:
            self._file.close()
            raise
        self.entries = tuple(entry for entry in entries if entry.name not in broken)
        self.problems = _listed([*found, *misplaced])

    def __enter__(self) -> Self:
        """Keep the file open, for `content`."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file."""
        self._file.close()

    def content(self, entry: Entry) -> Iterator[bytes]:
        """Unpack one entry piece by piece, and never more bytes than it declares.

        Yields:
            Pieces of at most 256 KiB.

        Raises:
            PackageInvalidError: It is damaged or not as long as declared, which may show only when
                all pieces were given.
        """
        try:
            yield from self._checked(entry)
        except (ZipDamagedError, zlib.error) as error:
            why = f"cannot be decompressed: {error}" if isinstance(error, zlib.error) else error
            problem = Problem(shown_name(entry.name), str(why))
            raise PackageInvalidError(
                f"cannot take the package: {problem}", cause=str(problem), problems=[problem]
            ) from error

    def _checked(self, entry: Entry) -> Iterator[bytes]:
        size = checksum = 0
        for piece in self._inflated(entry) if entry.is_deflated else self._packed(entry):
            size += len(piece)
            if size > entry.size_bytes:
                raise ZipDamagedError(f"holds more than the {entry.size_bytes} bytes declared")
            checksum = zlib.crc32(piece, checksum)
            yield piece
        if size < entry.size_bytes:
            raise ZipDamagedError(f"holds {size} bytes and declares {entry.size_bytes}")
        if checksum != entry.checksum:
            raise ZipDamagedError("is damaged: its CRC-32 does not fit its content")

    def _packed(self, entry: Entry) -> Iterator[bytes]:
        left = entry.packed_bytes
        self._file.seek(entry.content_offset)
        while left:
            piece = self._file.read(min(left, _CHUNK))
            if not piece:
                raise ZipDamagedError("is cut off")
            left -= len(piece)
            yield piece

    def _inflated(self, entry: Entry) -> Iterator[bytes]:
        inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        for packed in self._packed(entry):
            waiting = packed
            while waiting:
                if inflate.eof:
                    raise ZipDamagedError("has bytes behind its compressed content")
                yield inflate.decompress(waiting, _CHUNK)
                waiting = inflate.unconsumed_tail or inflate.unused_data
        while not inflate.eof:  # all is read, but not all need have come out
            piece = inflate.decompress(b"", _CHUNK)
            if not piece and not inflate.eof:
                raise ZipDamagedError("ends in the middle of its compressed content")
            yield piece

    def _judge(self, records: Sequence[Record]) -> tuple[set[str], list[Problem]]:
        """Judge each line of the directory; return the names that break a rule, and how."""
        found = [
            *((record.name, why) for record in records for why in self._rules_broken(record)),
            *judge_together([record.name for record in records]),
        ]
        problems = [Problem(shown_name(name), why) for name, why in found]
        total = sum(record.size_bytes for record in records)
        if total > self._limits.total_bytes:
            message = f"unpacks to {total} bytes, more than {self._limits.total_bytes}"
            problems.insert(0, Problem(WHOLE, message))
        return {name.removesuffix("/") for name, _ in found}, problems

    def _rules_broken(self, record: Record) -> Iterator[str]:
        yield from judge_name(record.name, depth=self._limits.depth)
        is_folder = record.name.endswith("/")
        kind = stat.S_IFMT(record.mode)
        if kind not in {0, stat.S_IFDIR if is_folder else stat.S_IFREG}:
            what = _KINDS.get(kind, "a folder by its name or by its mode, but not by both")
            yield f"is {what}; only files and folders are taken"
        if record.flags & _ENCRYPTED:
            yield "is encrypted"
        elif record.flags & ~_KNOWN_FLAGS:
            yield f"has flags that are not known here: {record.flags:#06x}"
        if record.method not in {_STORED, _DEFLATED}:
            yield f"is compressed by method {record.method}; only 0 and 8 (deflate) are taken"
        if record.method == _STORED and record.packed_bytes != record.size_bytes:
            yield "is stored as it is, but with two sizes"
        if is_folder and record.size_bytes:
            yield f"is a folder that holds {record.size_bytes} bytes"
        size, packed = record.size_bytes, record.packed_bytes
        if size > self._limits.file_bytes:
            yield f"unpacks to {size} bytes, more than {self._limits.file_bytes}"
        elif size > _RATIO_FLOOR and size > packed * self._limits.ratio:
            times = f"{self._limits.ratio:g} times"
            yield f"unpacks {packed} bytes to {size}, more than {times} as many"

    def _lay_out(
        self, records: Sequence[Record], limit: int
    ) -> tuple[list[Entry], tuple[Problem, ...]]:
        """Go through the contents in their order, up to the first that is not where it must be."""
        entries: list[Entry] = []
        expected = 0
        for record in sorted(records, key=lambda record: record.header_offset):
            try:
                content_offset, expected = self._place(record, expected, limit)
            except ZipDamagedError as error:
                return entries, (Problem(shown_name(record.name), str(error)),)
            entries.append(_entry(record, content_offset))
        if expected != limit:
            message = f"{limit - expected} bytes in front of its directory belong to no entry"
            return entries, (Problem(WHOLE, message),)
        return entries, ()

    def _place(self, record: Record, expected: int, limit: int) -> tuple[int, int]:
        if record.header_offset < expected:
            raise ZipDamagedError("shares bytes with another entry")
        if record.header_offset > expected:
            gap = record.header_offset - expected
            raise ZipDamagedError(f"has {gap} bytes in front that belong to no entry")
        return read_local(self._file, record, limit=limit)


def _entry(record: Record, content_offset: int) -> Entry:
    return Entry(
        name=record.name.removesuffix("/"),
        is_folder=record.name.endswith("/"),
        is_executable=bool(record.mode & stat.S_IXUSR),
        is_deflated=record.method == _DEFLATED and record.packed_bytes > 0,
        checksum=record.checksum,
        packed_bytes=record.packed_bytes,
        size_bytes=record.size_bytes,
        content_offset=content_offset,
    )


def _listed(problems: Sequence[Problem]) -> tuple[Problem, ...]:
    if len(problems) <= _MOST_PROBLEMS:
        return tuple(problems)
    rest = Problem(WHOLE, f"{len(problems) - _MOST_PROBLEMS} more problems like these")
    return (*problems[:_MOST_PROBLEMS], rest)

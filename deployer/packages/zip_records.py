"""The records of a ZIP file, read as PKWARE's APPNOTE.TXT 6.3 lays them out.

A ZIP says everything twice: in front of each file, and in the central directory at the end. Here
the two are read and compared; a difference of any kind is an error, since readers differ on which
of the two they believe.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

from deployer.file_names import decode_name, shown_name

SIZES_FOLLOW: Final = 0x0008
"""The flag of writers that do not know a file's size when they begin it."""

UTF8_NAME: Final = 0x0800
"""The flag that says how a name is encoded."""

_END: Final = struct.Struct("<4s4H2LH")
_CENTRAL: Final = struct.Struct("<4s2B5H3L5H2L")
_LOCAL: Final = struct.Struct("<4s5H3L2H")
_EXTRA: Final = struct.Struct("<2H")
_DESCRIPTORS: Final = tuple(struct.Struct(layout) for layout in ("<4s3L", "<4sL2Q", "<3L", "<L2Q"))
_ZIP64_LOCATOR_BYTES: Final = 20
_LONGEST_COMMENT: Final = 65_535
_LARGEST_DIRECTORY: Final = 1024**2
_IN_ZIP64: Final = 0xFFFFFFFF
_ZIP64: Final = 0x0001
_UNICODE_PATH: Final = 0x7075


class ZipDamagedError(Exception):
    """The file is no ZIP, or contradicts itself; the message says where and how."""


@dataclass(frozen=True, slots=True)
class End:
    """What the end record says of the central directory."""

    offset: int
    size_bytes: int
    count: int


@dataclass(frozen=True, slots=True)
class Record:
    """One line of the central directory.

    Attributes:
        raw_name: The name's bytes.
        name: The name decoded, not judged.
        flags: General purpose bit flag.
        method: Compression method.
        checksum: CRC-32 of the content.
        packed_bytes: In the archive.
        size_bytes: Unpacked.
        mode: As Unix has it, with the file's kind; 0: written elsewhere.
        header_offset: Of the local header.
    """

    raw_name: bytes
    name: str
    flags: int
    method: int
    checksum: int
    packed_bytes: int
    size_bytes: int
    mode: int
    header_offset: int

    @property
    def facts(self) -> tuple[int, int, int]:
        """What is said again beside the content, in the order it is said there."""
        return self.checksum, self.packed_bytes, self.size_bytes


def read_end(file: BinaryIO, *, most_entries: int) -> End:
    """Find the end record, of which there must be exactly one, at the end of the file.

    Raises:
        ZipDamagedError: There is none, or it says what cannot be.
    """
    size = os.fstat(file.fileno()).st_size
    if size == 0:
        raise ZipDamagedError("it is empty")
    tail_offset = max(0, size - _END.size - _LONGEST_COMMENT)
    file.seek(tail_offset)
    tail = file.read()
    at = next((at for at in _places(tail, b"PK\5\6") if _reaches_end(tail, at)), None)
    if at is None:
        if tail_offset == 0 and not tail.startswith(b"PK") and b"PK\5\6" not in tail:
            raise ZipDamagedError("it is no ZIP")
        raise ZipDamagedError("it was cut off, has bytes behind its end, or is no ZIP")
    if b"PK\5\6" in tail[at + 4 :]:
        raise ZipDamagedError("it has more than one end record")
    if at >= _ZIP64_LOCATOR_BYTES and tail.startswith(b"PK\6\7", at - _ZIP64_LOCATOR_BYTES):
        raise ZipDamagedError("it has a zip64 directory, which a package does not need")
    _, disk, first_disk, here, count, directory, offset, _ = _END.unpack_from(tail, at)
    if disk or first_disk or here != count:
        raise ZipDamagedError("it is one part of several")
    if offset + directory != tail_offset + at:
        raise ZipDamagedError("its directory is not where its end record says")
    end = End(offset, directory, count)
    _refuse_size(end, most_entries)
    return end


def _refuse_size(end: End, most_entries: int) -> None:
    if end.count == 0:
        raise ZipDamagedError("it holds no files")
    if end.count > most_entries:
        raise ZipDamagedError(f"it has {end.count} entries, more than {most_entries}")
    if end.size_bytes > _LARGEST_DIRECTORY:
        raise ZipDamagedError(f"its directory has {end.size_bytes} bytes, more than 1 MiB")


def read_records(file: BinaryIO, end: End) -> tuple[Record, ...]:
    """Read the central directory.

    Raises:
        ZipDamagedError: It is cut off, or holds more or less than the end record says.
    """
    file.seek(end.offset)
    data = file.read(end.size_bytes)
    records: list[Record] = []
    at = 0
    while at < len(data) and len(records) < end.count:
        number = len(records) + 1
        if at + _CENTRAL.size > len(data) or not data.startswith(b"PK\1\2", at):
            raise ZipDamagedError(f"line {number} of its directory cannot be read")
        fields = _CENTRAL.unpack_from(data, at)
        name_at = at + _CENTRAL.size
        extra_at = name_at + fields[11]
        comment_at = extra_at + fields[12]
        at = comment_at + fields[13]
        if at > len(data):
            raise ZipDamagedError(f"line {number} of its directory is cut off")
        records.append(_record(fields, data[name_at:extra_at], data[extra_at:comment_at]))
    if at != len(data) or len(records) != end.count:
        raise ZipDamagedError(
            f"its end record counts {end.count} entries, and its directory holds another number"
        )
    return tuple(records)


def read_local(file: BinaryIO, record: Record, *, limit: int) -> tuple[int, int]:
    """Compare what stands around a file's content with its line in the directory.

    Args:
        file: The archive.
        record: The line.
        limit: Where the directory begins, and contents end.

    Returns:
        The offset of the content, and the offset behind all that belongs to the file.

    Raises:
        ZipDamagedError: The two differ; the message fits behind the file's name.
    """
    file.seek(record.header_offset)
    header = file.read(_LOCAL.size)
    if len(header) < _LOCAL.size or not header.startswith(b"PK\3\4"):
        raise ZipDamagedError("has no header where the directory says")
    _, _, flags, method, _, _, checksum, packed, size, *lengths = _LOCAL.unpack(header)
    raw_name, extra = file.read(lengths[0]), file.read(lengths[1])
    content_offset = record.header_offset + _LOCAL.size + sum(lengths)
    behind = content_offset + record.packed_bytes
    if behind > limit:
        raise ZipDamagedError("reaches into the directory")
    if (raw_name, flags, method) != (record.raw_name, record.flags, record.method):
        raise ZipDamagedError("has another name, method or flags in its own header")
    fields = _extra_fields(extra)
    if _UNICODE_PATH in fields:
        _decoded(raw_name, fields[_UNICODE_PATH], flags)
    said = (checksum, *reversed(_widened(fields.get(_ZIP64), size, packed)))
    if not flags & SIZES_FOLLOW:
        if said != record.facts:
            raise ZipDamagedError("has another size or checksum in its own header")
        return content_offset, behind
    # What follows may stand in front as well, but must not differ from what follows.
    if any(mine not in {0, its} for mine, its in zip(said, record.facts, strict=True)):
        raise ZipDamagedError("has another size or checksum in its own header")
    return content_offset, behind + _descriptor_bytes(file, record, behind)


def _places(data: bytes, sought: bytes) -> Iterator[int]:
    at = data.find(sought)
    while at >= 0:
        yield at
        at = data.find(sought, at + 1)


def _reaches_end(tail: bytes, at: int) -> bool:
    """Tell whether the end record at this place, with its comment, ends where the file ends."""
    if at + _END.size > len(tail):
        return False
    comment_length: int = _END.unpack_from(tail, at)[7]
    return at + _END.size + comment_length == len(tail)


def _record(fields: tuple[int, ...], raw_name: bytes, extra: bytes) -> Record:
    flags, method, checksum = fields[4], fields[5], fields[8]
    packed, size, disk, attributes, offset = (fields[index] for index in (9, 10, 14, 16, 17))
    try:
        extras = _extra_fields(extra)
        name = _decoded(raw_name, extras.get(_UNICODE_PATH), flags)
        size, packed, offset = _widened(extras.get(_ZIP64), size, packed, offset)
    except ZipDamagedError as error:
        raise ZipDamagedError(f"{shown_name(raw_name.decode('cp437'))} {error}") from error
    if disk:
        raise ZipDamagedError("it is one part of several")
    mode = attributes >> 16
    return Record(raw_name, name, flags, method, checksum, packed, size, mode, offset)


def _decoded(raw_name: bytes, unicode_path: bytes | None, flags: int) -> str:
    try:
        return decode_name(raw_name, unicode_path, is_utf8=bool(flags & UTF8_NAME))
    except ValueError as error:
        raise ZipDamagedError(str(error)) from error


def _extra_fields(extra: bytes) -> dict[int, bytes]:
    fields: dict[int, bytes] = {}
    at = 0
    # Fewer bytes than a field's head at the end are padding, as zipalign and jar leave it.
    while at + _EXTRA.size <= len(extra):
        kind, length = _EXTRA.unpack_from(extra, at)
        at += _EXTRA.size
        if at + length > len(extra):
            raise ZipDamagedError("has an extra field that is cut off")
        if kind in fields and kind in {_ZIP64, _UNICODE_PATH}:
            raise ZipDamagedError("has the same extra field twice")
        fields[kind] = extra[at : at + length]
        at += length
    return fields


def _widened(zip64: bytes | None, *values: int) -> tuple[int, ...]:
    """Put 64 bits in for those values whose 32 bits are all ones, in the order of the field."""
    if zip64 is None:
        return values
    widened = []
    for value in values:
        if value != _IN_ZIP64:
            widened.append(value)
            continue
        if len(zip64) < 8:  # noqa: PLR2004  # bytes of one value
            raise ZipDamagedError("has a zip64 field that is too short")
        widened.append(int.from_bytes(zip64[:8], "little"))
        zip64 = zip64[8:]
    return tuple(widened)


def _descriptor_bytes(file: BinaryIO, record: Record, at: int) -> int:
    """Compare the sizes behind a content with the directory's; return how long they are.

    Whether they begin with a signature and have 32 or 64 bits is said nowhere, so the layout is
    the one that gives what the directory gives.
    """
    file.seek(at)
    data = file.read(max(layout.size for layout in _DESCRIPTORS))
    for layout in _DESCRIPTORS:
        if layout.size > len(data):
            continue
        *signature, checksum, packed, size = layout.unpack_from(data)
        if signature in ([], [b"PK\7\10"]) and (checksum, packed, size) == record.facts:
            return layout.size
    raise ZipDamagedError("has another size or checksum behind its content")

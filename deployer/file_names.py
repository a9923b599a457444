"""Names of files that strangers chose, and which of them mean the same thing everywhere."""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections.abc import Iterator, Sequence
from typing import Final

LONGEST_PATH: Final = 1024
"""Bytes, well below the kernel's 4096: the path of a release's directory stands in front."""

_LONGEST_PART: Final = 255  # bytes, of every file system in use
_WINDOWS_DEVICE: Final = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)
_INVISIBLE: Final = frozenset(("Cc", "Cf", "Cs", "Co", "Zl", "Zp"))  # controls, bidi marks, breaks


def is_windows_device(part: str) -> bool:
    """Tell whether Windows opens a device for this file name, whatever its suffix and folder."""
    return _WINDOWS_DEVICE.fullmatch(part) is not None


def decode_name(raw: bytes, unicode_path: bytes | None, *, is_utf8: bool) -> str:
    """Decode a name out of a ZIP.

    Args:
        raw: As it stands in the header.
        unicode_path: The extra field 0x7075 (APPNOTE.TXT 4.6.9), a second name that some readers
            prefer; None when there is none.
        is_utf8: What the header's flag says. macOS writes UTF-8 without setting it, so UTF-8 is
            tried first in either case; else it is code page 437.

    Raises:
        ValueError: It cannot be decoded, or the two names differ.
    """
    try:
        name = raw.decode()
    except UnicodeDecodeError as error:
        if is_utf8:
            raise ValueError("has a name that is not UTF-8") from error
        name = raw.decode("cp437")
    if (
        unicode_path is not None
        and unicode_path[1:5] == zlib.crc32(raw).to_bytes(4, "little")
        and unicode_path[5:] != name.encode()
    ):
        raise ValueError("has two names that differ")
    return name


def shown_name(name: str) -> str:
    """Write a name for people: what could deceive them is escaped, what is too long is cut."""
    text = "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in name[:200]
    )
    return f"{text}..." if len(name) > len(text) else text or "(no name)"


def judge_name(name: str, *, depth: int) -> Iterator[str]:
    """Say why a name must not be unpacked.

    Args:
        name: A path within an archive; a folder's ends with a slash.
        depth: How many parts it may have.

    Yields:
        What is wrong, in words that fit behind the name; nothing when all is well.
    """
    if name.startswith("/"):
        yield "is an absolute path"
        return
    path = name.removesuffix("/")
    parts = path.split("/")
    if any(part in {"", ".", ".."} for part in parts):
        yield "has an empty part, '.' or '..' in its path"
    if "\\" in name or ":" in name:
        yield "holds a backslash or a colon, which Windows reads as part of a path"
    if any(unicodedata.category(character) in _INVISIBLE for character in name):
        yield "holds control characters or invisible ones"
    if len(parts) > depth:
        yield f"lies {len(parts)} folders deep, more than {depth}"
    if len(path.encode()) > LONGEST_PATH or any(len(p.encode()) > _LONGEST_PART for p in parts):
        yield f"is longer than {_LONGEST_PART} bytes in a part or {LONGEST_PATH} in all"
    if any(
        is_windows_device(part) or part.endswith((" ", ".")) for part in parts if part.strip(".")
    ):
        yield "has a part that Windows reserves, or one with a dot or space at its end"


def judge_together(names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Say which names get into each other's way on some file system.

    Args:
        names: Paths as in `judge_name`.

    Yields:
        A name, and what is wrong with it.
    """
    first: dict[str, str] = {}
    files: set[str] = set()
    for name in names:
        if len(name) > LONGEST_PATH:  # refused already, and slow to take apart
            continue
        key = _key(name.removesuffix("/"))
        if key in first:
            other = first[key]
            why = "twice" if name == other else f"twice, as {shown_name(other)!r} too"
            yield name, f"is there {why}"
            continue
        first[key] = name
        if not name.endswith("/"):
            files.add(key)
    for key, name in first.items():
        folder = key.rpartition("/")[0]
        while folder:
            if folder in files:
                yield name, f"lies in {shown_name(first[folder])!r}, which is a file"
                break
            folder = folder.rpartition("/")[0]


def _key(path: str) -> str:
    """Give what macOS and Windows take for the same name; and './a', 'a//b' for what they mean."""
    parts = [part for part in path.split("/") if part not in {"", "."}]
    return unicodedata.normalize("NFC", "/".join(parts).casefold())

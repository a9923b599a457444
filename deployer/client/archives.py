"""Packages on this side of the wire: a ZIP file, its bytes, or a directory packed into them."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from deployer.errors import PackageInvalidError, PackageTooLargeError, Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LEFT_OUT: Final = frozenset(
    {".git", ".hg", ".svn", ".venv", "venv", "__pycache__", ".mypy_cache", ".ruff_cache"}
    | {".pytest_cache", ".tox", ".nox", ".idea", ".vscode", "node_modules", ".DS_Store"}
)
"""What lies in a working directory but belongs into no package."""

LARGEST_BYTES: Final = 512 * 1024 * 1024
_EARLIEST: Final = (1980, 1, 1, 0, 0, 0)
_CHUNK_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Archive:
    """A package's bytes, wherever they are.

    Attributes:
        source: The ZIP file, or its bytes.
        size_bytes: How many they are.
        md5: Lower-case hex: the protocol's name for the package.
        sha256: Lower-case hex: the name to use when two packages share their MD5.
        signature: What lies beside the ZIP as its .minisig file; None when nothing does.
    """

    source: Path | bytes
    size_bytes: int
    md5: str
    sha256: str
    signature: bytes | None = None

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """Open the bytes for reading from their start."""
        if isinstance(self.source, Path):
            with self.source.open("rb") as file:
                yield file
        else:
            yield io.BytesIO(self.source)


class Upload:
    """A body for requests that tells how much of it is sent."""

    def __init__(self, file: BinaryIO, size_bytes: int, on_sent: Callable[[int], None]) -> None:
        """Read from file; on_sent is told the bytes handed out so far, after each chunk."""
        self._file = file
        self._size_bytes = size_bytes
        self._on_sent = on_sent
        self._sent_bytes = 0

    def __len__(self) -> int:
        """Say the size, so that a Content-Length is sent."""
        return self._size_bytes

    def read(self, size: int = -1) -> bytes:
        """Hand out the next chunk."""
        chunk = self._file.read(size)
        self._sent_bytes += len(chunk)
        self._on_sent(self._sent_bytes)
        return chunk


def open_archive(package: Path | str | bytes) -> Archive:
    """Find out size and checksums of a package.

    Args:
        package: A ZIP file, a directory to be packed in memory, or a ZIP's bytes. A file's
            signature is read from beside it.

    Raises:
        PackageInvalidError: There is no such file, or the directory cannot be packed.
        PackageTooLargeError: The directory holds more than can be packed in memory.
    """
    source = Path(package) if isinstance(package, str) else package
    if isinstance(source, Path) and source.is_dir():
        source = pack(source)
    if isinstance(source, bytes):
        md5, sha256 = hashlib.md5(source, usedforsecurity=False), hashlib.sha256(source)
        return Archive(source, len(source), md5.hexdigest(), sha256.hexdigest())
    md5, sha256, size_bytes = hashlib.md5(usedforsecurity=False), hashlib.sha256(), 0
    try:
        with source.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                md5.update(chunk)
                sha256.update(chunk)
                size_bytes += len(chunk)
        signature = _signature_of(source)
    except OSError as error:
        raise PackageInvalidError(
            f"cannot read {source}: {error.strerror}", cause=error.strerror or ""
        ) from error
    return Archive(source, size_bytes, md5.hexdigest(), sha256.hexdigest(), signature)


def _signature_of(package: Path) -> bytes | None:
    try:
        return package.with_name(f"{package.name}.minisig").read_bytes()
    except FileNotFoundError:
        return None


def pack(directory: Path) -> bytes:
    """Pack a directory into a ZIP, the same bytes for the same contents.

    Names are sorted, times and owners left out, and of the modes only "executable" is kept, so
    that pushing an unchanged directory again is known as the package that is installed already.

    Args:
        directory: Its contents become the root of the ZIP; see LEFT_OUT for what does not.

    Raises:
        PackageInvalidError: It holds links, sockets or the like; all of them are listed.
        PackageTooLargeError: Its files hold more than LARGEST_BYTES.
    """
    files = list(_files(directory))
    total_bytes = sum(path.stat().st_size for path in files)
    if total_bytes > LARGEST_BYTES:
        raise PackageTooLargeError(
            f"cannot pack {directory}: its files hold {total_bytes} bytes, more than"
            f" {LARGEST_BYTES}; make a ZIP of what the agent needs, and push that",
            cause=f"more than {LARGEST_BYTES} bytes",
        )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in files:
            member = zipfile.ZipInfo(path.relative_to(directory).as_posix(), _EARLIEST)
            member.compress_type = zipfile.ZIP_DEFLATED
            mode = 0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644
            member.external_attr = (stat.S_IFREG | mode) << 16
            archive.writestr(member, path.read_bytes())
    return buffer.getvalue()


def _files(directory: Path) -> Iterator[Path]:
    """Give the regular files below directory in a fixed order."""
    problems: list[Problem] = []
    found: list[Path] = []
    for parent, folders, names in os.walk(directory):
        folders[:] = sorted(set(folders) - LEFT_OUT)
        for name in sorted({*names, *folders} - LEFT_OUT):
            path = Path(parent, name)
            mode = path.lstat().st_mode
            if stat.S_ISREG(mode) and path.suffix != ".pyc":
                found.append(path)
            elif not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
                where = path.relative_to(directory).as_posix()
                what = "a symbolic link" if stat.S_ISLNK(mode) else "not a regular file"
                problems.append(Problem(where, f"{what}, which a package cannot hold"))
    if problems:
        raise PackageInvalidError(
            f"cannot pack {directory}: {problems[0]}",
            cause=problems[0].message,
            problems=problems,
            hint="put the files themselves there",
        )
    yield from sorted(found)

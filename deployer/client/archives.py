"""Packages on this side of the wire: a ZIP file, its bytes, or a directory packed into them."""

from __future__ import annotations

import hashlib
import io
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol

from deployer.errors import PackageInvalidError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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


class Readable(Protocol):
    """What can be read from its beginning, as often as it takes."""

    def read(self, size: int = -1, /) -> bytes:
        """Give the next bytes, none at the end."""

    def seek(self, offset: int, /) -> int:
        """Go to a place."""


class Upload:
    """A body for requests that tells how much of it is sent."""

    def __init__(self, file: Readable, size_bytes: int, on_sent: Callable[[int], None]) -> None:
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

    def rewind(self) -> None:
        """Begin anew, for a request that is sent again."""
        self._file.seek(0)
        self._sent_bytes = 0


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
        from deployer.client.directories import pack  # noqa: PLC0415 - for directories only

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

"""Packages on this side of the wire: a ZIP file, its bytes, or a directory packed into them."""

from __future__ import annotations

import hashlib
import io
import tempfile
import weakref
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, Protocol

from deployer.errors import PackageInvalidError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_CHUNK_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Archive:
    """A package's bytes, wherever they are.

    Attributes:
        source: The ZIP file, its bytes, or an open file that ends with the archive.
        size_bytes: How many they are.
        md5: Lower-case hex: the protocol's name for the package.
        sha256: Lower-case hex: the name to use when two packages share their MD5.
        signature: What lies beside the ZIP as its .minisig file; None when nothing does.
    """

    source: Path | bytes | IO[bytes]
    size_bytes: int
    md5: str
    sha256: str
    signature: bytes | None = None

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """Open the bytes for reading from their start."""
        if isinstance(self.source, Path):
            with self.source.open("rb") as file:
                yield file
        elif isinstance(self.source, bytes):
            yield io.BytesIO(self.source)
        else:
            self.source.seek(0)
            yield self.source


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
        package: A ZIP file, a directory to be packed into a temporary file, or a ZIP's bytes. A
            file's signature is read from beside it.

    Raises:
        PackageInvalidError: There is no such file, or the directory cannot be packed.
        PackageTooLargeError: The directory holds more than is packed.
    """
    source = Path(package) if isinstance(package, str) else package
    if isinstance(source, Path) and source.is_dir():
        return _packed(source)
    if isinstance(source, bytes):
        md5, sha256 = hashlib.md5(source, usedforsecurity=False), hashlib.sha256(source)
        return Archive(source, len(source), md5.hexdigest(), sha256.hexdigest())
    try:
        with source.open("rb") as file:
            size_bytes, md5_hex, sha256_hex = _digests(file)
        signature = _signature_of(source)
    except OSError as error:
        raise PackageInvalidError(
            f"cannot read {source}: {error.strerror}", cause=error.strerror or ""
        ) from error
    return Archive(source, size_bytes, md5_hex, sha256_hex, signature)


def _packed(directory: Path) -> Archive:
    """Pack a directory into a file without a name, which goes with the archive."""
    from deployer.client.directories import contents_of, write_zip  # noqa: PLC0415 - for these only

    contents = contents_of(directory)
    file = tempfile.TemporaryFile()  # noqa: SIM115 - it is read until the archive is gone
    try:
        write_zip(contents, file)
        file.seek(0)
        archive = Archive(file, *_digests(file))
    except BaseException:
        file.close()
        raise
    weakref.finalize(archive, file.close)
    return archive


def _digests(file: IO[bytes]) -> tuple[int, str, str]:
    """Give the size of what is in a file, its MD5 and its SHA-256."""
    md5, sha256, size_bytes = hashlib.md5(usedforsecurity=False), hashlib.sha256(), 0
    while chunk := file.read(_CHUNK_BYTES):
        md5.update(chunk)
        sha256.update(chunk)
        size_bytes += len(chunk)
    return size_bytes, md5.hexdigest(), sha256.hexdigest()


def _signature_of(package: Path) -> bytes | None:
    try:
        return package.with_name(f"{package.name}.minisig").read_bytes()
    except FileNotFoundError:
        return None

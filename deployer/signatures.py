"""Detached signatures of packages, in the format of minisign.

Only prehashed signatures (algorithm ``ED``, Ed25519 over BLAKE2b-512) are taken, which minisign
makes since 0.10: those of the older kind need the whole package in memory. Every signature covers
its own trusted comment with a second, global signature.

Source: https://jedisct1.github.io/minisign/#signature-format.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from io import BufferedReader, BytesIO
from typing import Final, Self

from deployer.errors import SignatureInvalidError

SUFFIX: Final = ".minisig"
"""What minisign adds to the name of a file for that of its signature."""

LARGEST_SIGNATURE: Final = 16 * 1024
"""Bytes; minisign's own comments have 8 KiB at most."""

_PLAIN: Final = b"Ed"
_PREHASHED: Final = b"ED"
_ID_BYTES: Final = 8
_KEY_BYTES: Final = 32
_SIGNATURE_BYTES: Final = 64
_UNTRUSTED: Final = "untrusted comment:"
_TRUSTED: Final = "trusted comment: "
_LINES: Final = 4


@dataclass(frozen=True, slots=True)
class PublicKey:
    """What signatures of one signer are verified with.

    Attributes:
        id: Sixteen hex digits, as minisign shows them; tells keys apart, and proves nothing.
        raw: The Ed25519 key, 32 bytes.
    """

    id: str
    raw: bytes

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a public key: the one line that begins with ``RW``, or the whole ``.pub`` file.

        Raises:
            ValueError: It is none; the message says what one looks like.
        """
        lines = [line.strip() for line in text.strip().splitlines()]
        if len(lines) > 1 and lines[0].startswith(_UNTRUSTED):
            del lines[0]
        data = _decoded(lines[0]) if len(lines) == 1 else b""
        if len(data) != len(_PLAIN) + _ID_BYTES + _KEY_BYTES or not data.startswith(_PLAIN):
            raise ValueError(
                "must be a public key of minisign, 56 characters that begin with RW,"
                f" not {text.strip()!r:.80}"
            )
        return cls(key_id(data[2:10]), data[10:])

    @property
    def line(self) -> str:
        """The key as one line, the form that minisign's ``-P`` takes."""
        return base64.b64encode(_PLAIN + _id_bytes(self.id) + self.raw).decode()


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature as it was read: nothing of it is true before `verify` has said so.

    Attributes:
        key: The id of the key that it says to be made by.
        value: Over the BLAKE2b-512 of the package, 64 bytes.
        comment: The trusted comment.
        seal: The global signature, over `value` and `comment`, 64 bytes.
    """

    key: str
    value: bytes
    comment: str
    seal: bytes

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read the contents of a ``.minisig`` file.

        Raises:
            SignatureInvalidError: It is none, or one of the older kind.
        """
        if len(data) > LARGEST_SIGNATURE:
            raise _unreadable(f"it has more than {LARGEST_SIGNATURE} bytes")
        try:
            lines = data.decode().rstrip("\r\n").split("\n")
        except UnicodeDecodeError as error:
            raise _unreadable("it is not UTF-8") from error
        lines = [line.rstrip("\r") for line in lines]
        if (
            len(lines) != _LINES
            or not lines[0].startswith(_UNTRUSTED)
            or not lines[2].startswith(_TRUSTED)
        ):
            raise _unreadable("it does not have the four lines of minisign's format")
        value, seal = _decoded(lines[1]), _decoded(lines[3])
        if len(value) != len(_PREHASHED) + _ID_BYTES + _SIGNATURE_BYTES or (
            len(seal) != _SIGNATURE_BYTES
        ):
            raise _unreadable("its second or fourth line is not base64 of the right length")
        if value.startswith(_PLAIN):
            raise _unreadable(
                "it is of the older kind, over the whole file",
                hint="sign the package again without minisign's -l",
            )
        if not value.startswith(_PREHASHED):
            raise _unreadable("its algorithm is unknown")
        comment = lines[2].removeprefix(_TRUSTED)
        if not comment.replace("\t", "").isprintable():
            raise _unreadable("its trusted comment holds control characters")
        return cls(key_id(value[2:10]), value[10:], comment, seal)

    def to_text(self) -> str:
        """Write the contents of a ``.minisig`` file."""
        value = base64.b64encode(_PREHASHED + _id_bytes(self.key) + self.value).decode()
        seal = base64.b64encode(self.seal).decode()
        return (
            f"{_UNTRUSTED} signature of an ATOLL package, by key {self.key}\n{value}\n"
            f"{_TRUSTED}{self.comment}\n{seal}\n"
        )

    @property
    def fields(self) -> Mapping[str, str]:
        """The parts of the trusted comment that are ``name:value``, between tabs."""
        parts = (part.partition(":") for part in self.comment.split("\t"))
        return {name: value for name, colon, value in parts if colon}


def digest_of(stream: BufferedReader | BytesIO) -> bytes:
    """Compute what is signed of a package: the BLAKE2b-512 of its bytes."""
    return hashlib.file_digest(stream, hashlib.blake2b).digest()


def verify(signature: Signature, key: PublicKey, digest: bytes) -> None:
    """Make sure that a key signed a package, and the comment with it.

    Args:
        signature: As it was read.
        key: The key that it must be made by.
        digest: What `digest_of` says of the package.

    Raises:
        SignatureInvalidError: It is another key's, or for other bytes, or its comment was changed.
    """
    # cryptography is 7 MiB of a server that mostly is shown no signature.
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415

    if signature.key != key.id:
        raise SignatureInvalidError(
            f"cannot trust the signature: key {signature.key} made it, not key {key.id}",
            cause=f"signed by key {signature.key}, not {key.id}",
            hint="name the signer's public key, or have the package signed by this one",
        )
    public = Ed25519PublicKey.from_public_bytes(key.raw)
    try:
        public.verify(signature.value, digest)
    except InvalidSignature as error:
        raise SignatureInvalidError(
            f"cannot trust the signature: it is not one that key {key.id} made for these bytes",
            cause="the signature does not fit the package",
            hint="sign the very ZIP that is deployed; one that was packed again is another one",
        ) from error
    try:
        public.verify(signature.seal, signature.value + signature.comment.encode())
    except InvalidSignature as error:
        raise SignatureInvalidError(
            "cannot trust the signature: its trusted comment was changed after it was made",
            cause="the trusted comment was changed",
            hint="take the signature file as its signer made it, or sign again",
        ) from error


def key_id(data: bytes) -> str:
    """Write a key's id as minisign shows it: a little-endian number in hex."""
    return f"{int.from_bytes(data, 'little'):016X}"


def _id_bytes(text: str) -> bytes:
    return int(text, 16).to_bytes(_ID_BYTES, "little")


def _decoded(line: str) -> bytes:
    try:
        return base64.b64decode(line, validate=True)
    except (binascii.Error, ValueError):  # ValueError: it is not even ASCII
        return b""


def _unreadable(why: str, *, hint: str = "") -> SignatureInvalidError:
    return SignatureInvalidError(
        f"cannot read the signature: {why}",
        cause=f"signature unreadable: {why}",
        hint=hint or "send the .minisig file as `atoll-deployer sign` or minisign wrote it",
    )

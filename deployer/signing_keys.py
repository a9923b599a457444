"""Secret keys that sign packages, in minisign's format: made, read, and signed with.

A key may be encrypted with a password, as minisign's are by default: reading one of those takes a
second and 1 GiB of memory, by minisign's own choice.

Source: https://jedisct1.github.io/minisign/#secret-key-format; how libsodium's two limits become
the parameters of scrypt is taken from its documentation and tried against minisign itself.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from deployer.errors import SigningKeyError
from deployer.signatures import PublicKey, Signature, key_id

_ALGORITHM: Final = b"Ed"
_SCRYPT: Final = b"Sc"
_NO_PASSWORD: Final = b"\0\0"
_BLAKE2B: Final = b"B2"
_SALT: Final = slice(6, 38)
_OPERATIONS: Final = slice(38, 46)
_MEMORY: Final = slice(46, 54)
_SECRET: Final = slice(54, 158)
_SECRET_BYTES: Final = 8 + 64 + 32  # key id, seed with public key, checksum
_WHOLE_BYTES: Final = 158
_SCRYPT_BLOCK: Final = 8  # scrypt's r, which libsodium never changes
_LEAST_OPERATIONS: Final = 32768
_MOST_MEMORY: Final = 2**31 - 1  # hashlib takes no more


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key pair.

    Attributes:
        public: What signatures are verified with.
    """

    public: PublicKey
    _seed: bytes = field(repr=False)

    @classmethod
    def generate(cls) -> Self:
        """Make a new key pair with a random id."""
        return cls._of(os.urandom(8), Ed25519PrivateKey.generate().private_bytes_raw())

    @classmethod
    def parse(cls, text: str, password: Callable[[], str]) -> Self:
        """Read a secret key file.

        Args:
            text: Its contents: a comment and a line of base64.
            password: Asked when the key is encrypted, and only then.

        Raises:
            SigningKeyError: It is none, or the password is wrong.
        """
        data = _whole(text)
        secret = data[_SECRET]
        is_encrypted = data[2:4] == _SCRYPT
        if is_encrypted:
            stream = _key_stream(data, password())
            secret = bytes(a ^ b for a, b in zip(secret, stream, strict=True))
        key = cls._of(secret[:8], secret[8:40])
        checksum = hashlib.blake2b(_ALGORITHM + secret[:72], digest_size=32).digest()
        # Keys without a password have no checksum, but all hold their public half as well.
        if key.public.raw != secret[40:72] or (is_encrypted and checksum != secret[72:]):
            why = "the password is wrong" if is_encrypted else "its two halves do not fit"
            raise SigningKeyError(f"cannot use the secret key: {why}", cause=why)
        return key

    @classmethod
    def _of(cls, number: bytes, seed: bytes) -> Self:
        raw = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
        return cls(PublicKey(key_id(number), raw), seed)

    def to_text(self) -> str:
        """Write the contents of a secret key file without a password, which minisign reads too."""
        number = int(self.public.id, 16).to_bytes(8, "little")
        head = (_ALGORITHM + _NO_PASSWORD + _BLAKE2B).ljust(_SECRET.start, b"\0")
        whole = (head + number + self._seed + self.public.raw).ljust(_WHOLE_BYTES, b"\0")
        line = base64.b64encode(whole).decode()
        return f"untrusted comment: minisign secret key {self.public.id}, no password\n{line}\n"

    def sign(self, digest: bytes, comment: str) -> Signature:
        """Sign a package and a comment about it.

        Args:
            digest: The BLAKE2b-512 of the package.
            comment: Printable text; the signature covers it.
        """
        private = Ed25519PrivateKey.from_private_bytes(self._seed)
        value = private.sign(digest)
        return Signature(self.public.id, value, comment, private.sign(value + comment.encode()))


def _whole(text: str) -> bytes:
    """Read the line of base64 below the comment."""
    lines = text.strip().splitlines()
    try:
        data = base64.b64decode(lines[-1].strip(), validate=True) if lines else b""
    except (binascii.Error, ValueError):
        data = b""
    if (
        len(data) != _WHOLE_BYTES
        or data[:2] != _ALGORITHM
        or data[2:4] not in {_SCRYPT, _NO_PASSWORD}
        or data[4:6] != _BLAKE2B
    ):
        raise SigningKeyError(
            "cannot use the secret key: it is not one of minisign's format",
            cause="not a secret key",
            hint="make one with `atoll-deployer keygen FILE` or `minisign -G`",
        )
    return data


def _key_stream(data: bytes, password: str) -> bytes:
    operations = int.from_bytes(data[_OPERATIONS], "little")
    memory = int.from_bytes(data[_MEMORY], "little")
    cost, parallel = _scrypt_cost(operations, memory)
    try:
        return hashlib.scrypt(
            password.encode(),
            salt=data[_SALT],
            n=cost,
            r=_SCRYPT_BLOCK,
            p=parallel,
            maxmem=_MOST_MEMORY,
            dklen=_SECRET_BYTES,
        )
    except (ValueError, MemoryError, OverflowError) as error:
        raise SigningKeyError(
            f"cannot decrypt the secret key: its scrypt parameters ask for {memory} bytes of"
            " memory, which are not to be had",
            cause="not enough memory for the secret key's scrypt parameters",
        ) from error


def _scrypt_cost(operations: int, memory: int) -> tuple[int, int]:
    """Turn libsodium's two limits into scrypt's N and p; whichever limit is tighter decides."""
    operations = max(operations, _LEAST_OPERATIONS)
    if operations < memory // 32:
        return _power_of_two(operations // (4 * _SCRYPT_BLOCK)), 1
    cost = _power_of_two(memory // (128 * _SCRYPT_BLOCK))
    return cost, max(1, operations // 4 // cost // _SCRYPT_BLOCK)


def _power_of_two(most: int) -> int:
    """Give the largest power of two up to most, and 2 at least."""
    return 1 << max(1, most.bit_length() - 1)

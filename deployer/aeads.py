"""Bytes that nobody reads or changes without their key: ChaCha20-Poly1305 (RFC 8439)."""

from __future__ import annotations

import os
from typing import Final

KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12


def encrypt(key: bytes, plain: bytes, associated: bytes) -> bytes:
    """Encrypt bytes under a random nonce, which stands before them.

    Args:
        key: `KEY_BYTES` of them.
        plain: What is secret.
        associated: What belongs to it and need not be secret; it is authenticated with it.
    """
    # cryptography is 7 MiB of a process that mostly has no secret to keep.
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305  # noqa: PLC0415

    nonce = os.urandom(_NONCE_BYTES)
    return nonce + ChaCha20Poly1305(key).encrypt(nonce, plain, associated)


def decrypt(key: bytes, encrypted: bytes, associated: bytes) -> bytes:
    """Decrypt what `encrypt` made.

    Raises:
        ValueError: The key is another one, or either of them was changed since.
    """
    from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305  # noqa: PLC0415

    nonce, rest = encrypted[:_NONCE_BYTES], encrypted[_NONCE_BYTES:]
    try:
        return ChaCha20Poly1305(key).decrypt(nonce, rest, associated)
    except InvalidTag as error:
        raise ValueError("changed, or encrypted with another key") from error

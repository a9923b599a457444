"""Signatures for packages that tests send."""

from __future__ import annotations

import base64
import hashlib

from deployer.signing_keys import SigningKey

KEY = SigningKey.generate()
OTHER_KEY = SigningKey.generate()


def signature_of(package: bytes, *, key: SigningKey = KEY, comment: str = "") -> bytes:
    """Sign a package's bytes; gives the contents of its .minisig file."""
    return key.sign(hashlib.blake2b(package).digest(), comment).to_text().encode()


def signed_headers(package: bytes, signature: bytes | None = None) -> dict[str, str]:
    """Give the headers under which a ZIP travels with its signature."""
    data = signature_of(package) if signature is None else signature
    return {
        "Content-Type": "application/zip",
        "X-Package-Signature": base64.b64encode(data).decode(),
    }

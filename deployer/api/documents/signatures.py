"""How a package's signature is written."""

from __future__ import annotations

from deployer.api.documents.shapes import Document
from deployer.trust import Voucher


class Signature(Document):
    """A signature that was good when it came; trusted, if its key still is one of trust.keys."""

    key: str
    comment: str
    trusted: bool


def signature(noun: Voucher | None) -> Signature | None:
    """Write a signature, if there is one."""
    if noun is None:
        return None
    return Signature(key=noun.key, comment=noun.comment, trusted=noun.is_trusted)

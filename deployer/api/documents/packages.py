"""How a package is written."""

from __future__ import annotations

from datetime import datetime

from deployer import model
from deployer.api.documents.shapes import Document, Md5, Sha256
from deployer.api.documents.signatures import Signature, signature
from deployer.trust import Voucher


class Package(Document):
    """An uploaded package that passed every rule."""

    md5: Md5
    sha256: Sha256
    size_bytes: int
    agent: str
    version: str
    received_at: datetime
    signature: Signature | None


def package(noun: model.Package, voucher: Voucher | None) -> Package:
    """Write a package, with its signature if it has one."""
    return Package(
        md5=noun.md5,
        sha256=noun.sha256,
        size_bytes=noun.size_bytes,
        agent=noun.agent,
        version=noun.version,
        received_at=noun.received_at,
        signature=signature(voucher),
    )

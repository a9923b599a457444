"""How a package is written."""

from __future__ import annotations

from datetime import datetime

from deployer import model
from deployer.api.documents.shapes import Document, Md5, Sha256


class Package(Document):
    """An uploaded package that passed every rule."""

    md5: Md5
    sha256: Sha256
    size_bytes: int
    agent: str
    version: str
    received_at: datetime


def package(noun: model.Package) -> Package:
    """Write a package."""
    return Package(
        md5=noun.md5,
        sha256=noun.sha256,
        size_bytes=noun.size_bytes,
        agent=noun.agent,
        version=noun.version,
        received_at=noun.received_at,
    )

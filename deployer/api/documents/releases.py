"""How a release is written."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

from deployer import model
from deployer.api.documents.scans import Scan, scan
from deployer.api.documents.shapes import Document, Md5, Sha256
from deployer.api.documents.signatures import Signature, signature
from deployer.launches import manifest_of
from deployer.manifest.excerpts import excerpt
from deployer.model import ReleaseStatus
from deployer.scan_reports import ScanReport
from deployer.trust import Voucher


class Release(Document):
    """A numbered release of an agent.

    Attributes:
        number: Counts up from 1.
        status: How far it came.
        current: Whether it is the one that is live.
        previous: Whether it is the one that a rollback goes back to.
        version: As its manifest says.
        checksum: The MD5 of its package.
        sha256: The SHA-256 of its package.
        python: The interpreter of its environment.
        created_at: When it was made.
        rollback_ready: True: it is what was installed; else why it cannot be gone back to.
        signature: Who vouches for its package; null: nobody.
        scans: What scanners said of it while it was deployed.
        manifest: What its author wrote, without `[env]` and what looks like a secret.
    """

    number: int
    status: ReleaseStatus
    current: bool
    previous: bool
    version: str
    checksum: Md5
    sha256: Sha256
    python: str
    created_at: datetime
    rollback_ready: Literal[True] | str
    signature: Signature | None
    scans: list[Scan]
    manifest: dict[str, Any]


class ReleaseList(Document):
    """Releases of one agent, the newest first."""

    releases: list[Release]
    count: int
    next: str | None


def release(
    noun: model.Release,
    owner: model.Agent,
    obstacle: str,
    voucher: Voucher | None,
    reports: Sequence[ScanReport],
) -> Release:
    """Write a release.

    Args:
        noun: What is written.
        owner: Its agent.
        obstacle: Why it cannot be gone back to; empty when it can.
        voucher: The signature of its package, if there is one.
        reports: What scanners said of it.
    """
    return Release(
        number=noun.number,
        status=noun.status,
        current=noun.number == owner.current,
        previous=noun.number == owner.previous,
        version=noun.version,
        checksum=noun.md5,
        sha256=noun.sha256,
        python=noun.python,
        created_at=noun.created_at,
        rollback_ready=obstacle or True,
        signature=signature(voucher),
        scans=[scan(each) for each in reports],
        manifest=excerpt(manifest_of(noun)),
    )

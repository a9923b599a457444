"""A release, as a frozen noun."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from deployer.client.answers import TIME, Answer
from deployer.client.nouns.scans import SCANS, Scan


@dataclass(frozen=True, slots=True, kw_only=True)
class Release(Answer):
    """One unpacked package with its environment.

    Attributes:
        number: Counts up from 1 for each agent.
        status: installing, installed, proven or failed.
        current: Whether it is the one that is live.
        previous: Whether it is the one that a rollback goes back to.
        version: As its manifest says.
        checksum: The MD5 of its package.
        sha256: The SHA-256 of its package.
        python: The interpreter of its environment.
        created_at: When it was made.
        rollback_ready: True: it is what was installed; else why it cannot be gone back to.
        scans: What scanners said of it while it was deployed.
        manifest: What its author wrote, without ``[env]`` and what looks like a secret.
    """

    number: int
    status: str = ""
    current: bool = False
    previous: bool = False
    version: str = ""
    checksum: str = ""
    sha256: str = ""
    python: str = ""
    created_at: datetime | None = field(default=None, metadata=TIME)
    rollback_ready: bool | str | None = None
    scans: tuple[Scan, ...] = field(default=(), metadata=SCANS)
    manifest: Mapping[str, Any] = field(default_factory=dict, compare=False)

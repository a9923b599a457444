"""A package as the store has it, where no ZIP need lie behind it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from deployer.model import Package

PACKAGE: Final = Package(
    md5="a" * 32,
    sha256="b" * 64,
    size_bytes=10,
    agent="greeter",
    version="1.0",
    received_at=datetime(2026, 1, 1, tzinfo=UTC),
    manifest='{"agent": {"name": "greeter"}}',
    requirements=("six==1.0",),
    entry_point="script main.py",
    unpacked_bytes=100,
    entries=3,
)

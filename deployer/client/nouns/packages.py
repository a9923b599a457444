"""A package, as a frozen noun."""

from __future__ import annotations

from dataclasses import dataclass

from deployer.client.answers import Answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Package(Answer):
    """A package that the server holds."""

    md5: str
    sha256: str = ""
    agent: str = ""
    version: str = ""
    size_bytes: int = 0

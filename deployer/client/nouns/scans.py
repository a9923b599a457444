"""What scanners said of a release, as a server tells it."""

from __future__ import annotations

from dataclasses import dataclass, field

from deployer.client.answers import Answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding(Answer):
    """One thing that a scanner found.

    Attributes:
        rule: A stable word such as ``decoded-code`` or ``known-vulnerability``.
        file: Its path in the package, or ``requirements.lock``.
        line: Counted from 1; None: the file as a whole.
        message: For people.
        severity: unknown, low, medium, high or critical.
    """

    rule: str
    file: str = ""
    line: int | None = None
    message: str = ""
    severity: str = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan(Answer):
    """What one scanner says.

    Attributes:
        scanner: source, advisories or command.
        status: clean, findings or not_scanned, which is never to be taken for clean.
        findings: What it found.
        reason: Why it did not look; may be empty.
    """

    scanner: str
    status: str
    findings: tuple[Finding, ...] = field(
        default=(), metadata={"read": lambda each: tuple(map(Finding.read, each))}
    )
    reason: str = ""


SCANS = {"read": lambda each: tuple(map(Scan.read, each))}
"""How a list of them is read out of a document."""

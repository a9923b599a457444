"""What looking into a release came to: the same few words, whoever looked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

NOT_SCANNED: Final = "not-scanned"
"""As a rule to block by: a scanner that was to look and did not."""

KNOWN_VULNERABILITY: Final = "known-vulnerability"

RULES: Final = (
    "compiled-python",
    "ctypes",
    "decoded-code",
    "dynamic-code",
    KNOWN_VULNERABILITY,
    "large-blob",
    "native-code",
    "network-at-import",
    NOT_SCANNED,
    "odd-encoding",
    "process-at-import",
    "pth-file",
    "site-hook",
    "unpickled-data",
    "unreadable-source",
)
"""What the built-in scanners call what they find; the same in every release."""

_MOST_NAMED: Final = 3


class ScanStatus(StrEnum):
    """What a scanner's look came to."""

    CLEAN = "clean"
    FINDINGS = "findings"
    NOT_SCANNED = "not_scanned"  # never to be taken for clean


class Severity(StrEnum):
    """How much a finding matters, by the scanner's own judgement."""

    UNKNOWN = "unknown"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a scanner found.

    Attributes:
        rule: A stable word, one of `RULES` or an external scanner's own.
        file: Its path in the package, or ``requirements.lock``.
        line: Counted from 1; None: the file as a whole.
        message: For people.
        severity: How much it matters.
    """

    rule: str
    file: str
    line: int | None
    message: str
    severity: Severity

    @property
    def place(self) -> str:
        """Where it is, as compilers write it."""
        return self.file if self.line is None else f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class ScanReport:
    """What one scanner says of one release.

    Attributes:
        scanner: ``source``, ``advisories`` or ``command``.
        status: What its look came to.
        findings: What it found; a report of thousands is cut, and says so in reason.
        reason: Why it did not look, or not at everything; may be empty.
    """

    scanner: str
    status: ScanStatus
    findings: tuple[Finding, ...] = ()
    reason: str = ""


def report_of(scanner: str, findings: Sequence[Finding], reason: str = "") -> ScanReport:
    """Report what a scanner found that could look at everything."""
    status = ScanStatus.FINDINGS if findings else ScanStatus.CLEAN
    return ScanReport(scanner, status, tuple(findings), reason)


def not_scanned(scanner: str, reason: str) -> ScanReport:
    """Report that a scanner did not look."""
    return ScanReport(scanner, ScanStatus.NOT_SCANNED, reason=reason)


def summary(reports: Sequence[ScanReport]) -> str:
    """Say in one line what all scanners together came to."""
    found = Counter(finding.rule for report in reports for finding in report.findings)
    said = [f"{count} {rule}" for rule, count in found.most_common(_MOST_NAMED)]
    more = len(found) - len(said)
    said += [f"{more} other rules"] if more > 0 else []
    idle = [each.scanner for each in reports if each.status is ScanStatus.NOT_SCANNED]
    said += [f"not scanned: {', '.join(idle)}"] if idle else []
    return ", ".join(said) or "clean"

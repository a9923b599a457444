"""How the report of a scanner is written."""

from __future__ import annotations

from deployer.api.documents.shapes import Document
from deployer.scan_reports import ScanReport, ScanStatus, Severity


class Finding(Document):
    """One thing that a scanner found; a line of null means the file as a whole."""

    rule: str
    file: str
    line: int | None
    message: str
    severity: Severity


class Scan(Document):
    """What one scanner says of a release; not_scanned is never to be taken for clean."""

    scanner: str
    status: ScanStatus
    findings: list[Finding]
    reason: str


def scan(noun: ScanReport) -> Scan:
    """Write what a scanner says."""
    findings = [
        Finding(
            rule=each.rule,
            file=each.file,
            line=each.line,
            message=each.message,
            severity=each.severity,
        )
        for each in noun.findings
    ]
    return Scan(scanner=noun.scanner, status=noun.status, findings=findings, reason=noun.reason)

"""Scans: what is known, or stands out, about code and dependencies before they run.

Each scanner gives the same stable report. A report is information; only what the operator names in
``scan.block`` keeps a release from going live.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from deployer.errors import Problem, ScanBlockedError
from deployer.scan_reports import NOT_SCANNED, ScanReport, ScanStatus
from deployer.scans import advisories
from deployer.scans.advisories import Advisories
from deployer.scans.commands import scan_by_command
from deployer.scans.sources import Look, Sources, scan_sources
from deployer.settings.scans import ScanSettings

__all__ = ["Look", "Scans", "scan_sources"]


class Scans:
    """The scanners of one server."""

    def __init__(self, settings: ScanSettings, tmp: Path) -> None:
        """Scan as the settings say.

        Args:
            settings: Of the server.
            tmp: Where external scanners have their home for the time of a scan.
        """
        self._settings = settings
        self._tmp = tmp
        self._advisories = Advisories(settings.osv_archive)
        self._sources = Sources()

    def begin(self, code: Path) -> Look:
        """Begin to look into a package's code, which is done while its dependencies are installed.

        Args:
            code: The unpacked package, which stays as it is.

        Returns:
            For `scan`; as a context it ends with its block.
        """
        return self._sources.begin(code)

    def scan(self, look: Look, packages: Sequence[tuple[str, str]]) -> tuple[ScanReport, ...]:
        """Have every scanner look at a release.

        Args:
            look: What was begun with its code.
            packages: Name and version of all that is installed for it.
        """
        seconds = self._settings.seconds
        reports = [look.report(timeout_seconds=seconds), self.scan_packages(packages)]
        if command := self._settings.command:
            reports.append(scan_by_command(command, look.code, self._tmp, timeout_seconds=seconds))
        return tuple(reports)

    def scan_packages(self, packages: Sequence[tuple[str, str]]) -> ScanReport:
        """Look up some dependencies, by name and version, that need not be installed."""
        return self._advisories.scan(packages)

    def require_unblocked(self, agent: str, reports: Sequence[ScanReport]) -> None:
        """Refuse a release for what was found in it.

        Raises:
            ScanBlockedError: Something that the settings block; every such finding is listed.
        """
        block = set(self._settings.block)
        problems = [
            Problem(finding.place, f"{finding.rule}: {finding.message}")
            for report in reports
            for finding in report.findings
            if finding.rule in block
        ]
        problems += [
            Problem(report.scanner, f"{NOT_SCANNED}: {report.reason}")
            for report in reports
            if NOT_SCANNED in block and self._was_to_look(report)
        ]
        if problems:
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            raise ScanBlockedError(
                f"cannot deploy {agent}: this server blocks {problems[0]}{more}",
                cause=str(problems[0]),
                hint="mend it in the package, or take the rule out of scan.block in the settings",
                problems=problems,
            )

    def _was_to_look(self, report: ScanReport) -> bool:
        is_wanted = report.scanner != advisories.SCANNER or self._settings.osv_archive is not None
        return is_wanted and report.status is ScanStatus.NOT_SCANNED

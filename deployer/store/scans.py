"""Rows about scans: what scanners said of a release while it was deployed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from deployer.model import Release
from deployer.scan_reports import Finding, ScanReport, ScanStatus, Severity
from deployer.store.database import Database


def read_reports(database: Database, deployment_id: int) -> tuple[ScanReport, ...]:
    """Read what was said during a deployment, in the order it was said."""
    rows = database.read(
        "SELECT report FROM scans WHERE deployment = ? ORDER BY position", (deployment_id,)
    )
    return tuple(_report(row["report"]) for row in rows)


class ScanRows:
    """Reports of scanners; they stay with the deployment, also when its release is gone."""

    def __init__(self, database: Database) -> None:
        """Keep rows in database."""
        self._database = database

    def add(self, deployment_id: str, reports: Sequence[ScanReport]) -> None:
        """Write down what all scanners said during a deployment."""
        with self._database.transaction() as connection:
            connection.executemany(
                "INSERT INTO scans VALUES (?, ?, ?)",
                [
                    (int(deployment_id), position, json.dumps(asdict(report)))
                    for position, report in enumerate(reports)
                ],
            )

    def of_release(self, release: Release) -> tuple[ScanReport, ...]:
        """Read what was said of a release by the deployment that made it.

        Numbers begin anew when an agent was removed and its name is used again: the latest counts.
        """
        [(made_by,)] = self._database.read(
            "SELECT max(id) FROM deployments WHERE agent = ? AND release = ? AND NOT is_rollback",
            (release.agent, release.number),
        )
        return () if made_by is None else read_reports(self._database, made_by)


def _report(text: str) -> ScanReport:
    fields = json.loads(text)
    findings = (
        Finding(**{**each, "severity": Severity(each["severity"])}) for each in fields["findings"]
    )
    return ScanReport(
        **{**fields, "status": ScanStatus(fields["status"]), "findings": tuple(findings)}
    )

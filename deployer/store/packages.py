"""Rows about uploaded packages."""

from __future__ import annotations

import json
import sqlite3
from datetime import datetime

from deployer.agent_patterns import EVERY_AGENT
from deployer.errors import ChecksumConflictError, PackageUnknownError
from deployer.model import Package
from deployer.store.database import Database, now, to_text


def _package(row: sqlite3.Row) -> Package:
    return Package(
        md5=row["md5"],
        sha256=row["sha256"],
        size_bytes=row["size_bytes"],
        agent=row["agent"],
        version=row["version"],
        received_at=datetime.fromisoformat(row["received_at"]),
        manifest=row["manifest"],
        requirements=tuple(json.loads(row["requirements"])),
        entry_point=row["entry_point"],
        unpacked_bytes=row["unpacked_bytes"],
        entries=row["entries"],
    )


class PackageRows:
    """ZIPs that passed every rule, by either checksum."""

    def __init__(self, database: Database) -> None:
        """Keep rows in database."""
        self._database = database

    def find(self, checksum: str, patterns: tuple[str, ...] = EVERY_AGENT) -> Package | None:
        """Look a package up by its MD5 or SHA-256, in lower-case hex.

        Args:
            checksum: Either of the two.
            patterns: Only if it is for an agent of such a name.
        """
        row = self._database.find(
            "SELECT * FROM packages WHERE (md5 = ? OR sha256 = ?)"
            " AND EXISTS (SELECT 1 FROM json_each(?) WHERE agent GLOB value)",
            (checksum, checksum, json.dumps(patterns)),
        )
        return None if row is None else _package(row)

    def get(self, checksum: str, patterns: tuple[str, ...] = EVERY_AGENT) -> Package:
        """Read a package by its MD5 or SHA-256, if it is for an agent that fits patterns.

        Raises:
            PackageUnknownError: It was never uploaded, or is gone: upload it.
        """
        package = self.find(checksum, patterns)
        if package is None:
            raise PackageUnknownError(
                f"cannot find package {checksum}: it was not uploaded yet",
                cause=f"No such package: {checksum}",
                hint="upload the ZIP to POST /v1/packages, then ask again",
            )
        return package

    def add(self, package: Package) -> bool:
        """Add a package.

        Returns:
            True when it is new; False when the very same bytes were known.

        Raises:
            ChecksumConflictError: Other bytes of the same MD5 are known.
        """
        with self._database.transaction() as connection:
            known = self.find(package.md5)
            if known is not None and known.sha256 != package.sha256:
                raise ChecksumConflictError(
                    f"cannot take this package: its MD5 {package.md5} is that of another package"
                    f" (SHA-256 {known.sha256}); this one has SHA-256 {package.sha256}",
                    cause="MD5 collision with another package",
                    hint="change the package by a byte, or name packages by their SHA-256",
                )
            cursor = connection.execute(
                "INSERT INTO packages (sha256, md5, size_bytes, agent, version, received_at,"
                " manifest, requirements, entry_point, unpacked_bytes, entries)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (sha256) DO NOTHING",
                (
                    package.sha256,
                    package.md5,
                    package.size_bytes,
                    package.agent,
                    package.version,
                    to_text(package.received_at),
                    package.manifest,
                    json.dumps(package.requirements),
                    package.entry_point,
                    package.unpacked_bytes,
                    package.entries,
                ),
            )
            return cursor.rowcount == 1

    def all(self) -> tuple[Package, ...]:
        """Read every package, the newest first."""
        rows = self._database.read("SELECT * FROM packages ORDER BY received_at DESC")
        return tuple(_package(row) for row in rows)

    def touch(self, sha256: str) -> None:
        """Write down that a package was received again just now, so that it stays for a while."""
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE packages SET received_at = ? WHERE sha256 = ?", (to_text(now()), sha256)
            )

    def remove_unused(self, before: datetime) -> tuple[str, ...]:
        """Forget packages that no release was made from and no unfinished deployment names.

        Args:
            before: Only those that were received before: whoever uploads one deploys it next.

        Returns:
            Their SHA-256, whose archives are nobody's now.
        """
        with self._database.transaction() as connection:
            rows = connection.execute(
                "DELETE FROM packages WHERE received_at < ?"
                " AND sha256 NOT IN (SELECT sha256 FROM releases)"
                " AND sha256 NOT IN (SELECT sha256 FROM deployments"
                " WHERE status IN ('queued', 'running')) RETURNING sha256",
                (to_text(before),),
            ).fetchall()
        return tuple(row["sha256"] for row in rows)

    def remove(self, sha256: str) -> None:
        """Forget a package."""
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM packages WHERE sha256 = ?", (sha256,))

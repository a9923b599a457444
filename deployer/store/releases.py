"""Rows about releases."""

from __future__ import annotations

import sqlite3
from datetime import datetime

from deployer.errors import ReleaseUnknownError
from deployer.model import Package, Release, ReleaseStatus
from deployer.store.database import Database, now, to_text


def _release(row: sqlite3.Row) -> Release:
    try:
        status = ReleaseStatus(row["status"])
        created_at = datetime.fromisoformat(row["created_at"])
    except ValueError:  # a damaged row must not hide the others
        status, created_at = ReleaseStatus.FAILED, now()
    return Release(
        agent=row["agent"],
        number=row["number"],
        status=status,
        md5=row["md5"],
        sha256=row["sha256"],
        version=row["version"],
        manifest=row["manifest"],
        entry_point=row["entry_point"],
        python=row["python"],
        created_at=created_at,
    )


class ReleaseRows:
    """Numbered releases of agents."""

    def __init__(self, database: Database) -> None:
        """Keep rows in database."""
        self._database = database

    def add(self, package: Package) -> Release:
        """Add the next release of the package's agent, half-done until it says otherwise.

        Numbers come from a counter beside the agent, so that one is never given twice, not even
        after its release was deleted.
        """
        with self._database.transaction() as connection:
            (number,) = connection.execute(
                "UPDATE agents SET releases_made = releases_made + 1 WHERE name = ?"
                " RETURNING releases_made",
                (package.agent,),
            ).fetchone()
            connection.execute(
                "INSERT INTO releases VALUES (?, ?, ?, ?, ?, ?, ?, ?, '', ?)",
                (
                    package.agent,
                    number,
                    ReleaseStatus.INSTALLING,
                    package.md5,
                    package.sha256,
                    package.version,
                    package.manifest,
                    package.entry_point,
                    to_text(now()),
                ),
            )
        return self.get(package.agent, number)

    def restore(self, release: Release) -> None:
        """Add a release again whose row was lost; one that has a row keeps it."""
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO releases VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
                " ON CONFLICT (agent, number) DO NOTHING",
                (
                    release.agent,
                    release.number,
                    release.status,
                    release.md5,
                    release.sha256,
                    release.version,
                    release.manifest,
                    release.entry_point,
                    release.python,
                    to_text(release.created_at),
                ),
            )
            connection.execute(
                "UPDATE agents SET releases_made = max(releases_made, ?) WHERE name = ?",
                (release.number, release.agent),
            )

    def get(self, agent: str, number: int) -> Release:
        """Read one release.

        Raises:
            ReleaseUnknownError: The agent has no release of this number.
        """
        release = self.find(agent, number)
        if release is None:
            raise ReleaseUnknownError(
                f"cannot find release {number} of {agent}: it was never made, or is deleted",
                cause=f"No such release: {number}",
                hint=f"GET /v1/agents/{agent}/releases lists what there is",
            )
        return release

    def find(self, agent: str, number: int | None) -> Release | None:
        """Read one release if it is there."""
        row = self._database.find(
            "SELECT * FROM releases WHERE agent = ? AND number = ?", (agent, number)
        )
        return None if row is None else _release(row)

    def of_agent(self, agent: str) -> tuple[Release, ...]:
        """Read the releases of one agent, the newest first."""
        rows = self._database.read(
            "SELECT * FROM releases WHERE agent = ? ORDER BY number DESC", (agent,)
        )
        return tuple(_release(row) for row in rows)

    def all(self) -> tuple[Release, ...]:
        """Read every release."""
        rows = self._database.read("SELECT * FROM releases ORDER BY agent, number")
        return tuple(_release(row) for row in rows)

    def current(self) -> dict[str, Release]:
        """Read the current release of every agent that has one, by the agent's name."""
        rows = self._database.read(
            "SELECT releases.* FROM releases"
            " JOIN agents ON agents.name = releases.agent AND agents.current = releases.number"
        )
        return {row["agent"]: _release(row) for row in rows}

    def current_of_package(self, sha256: str) -> Release | None:
        """Find the current release that was made from this package."""
        row = self._database.find(
            "SELECT releases.* FROM releases"
            " JOIN agents ON agents.name = releases.agent AND agents.current = releases.number"
            " WHERE releases.sha256 = ?",
            (sha256,),
        )
        return None if row is None else _release(row)

    def set_status(self, release: Release, status: ReleaseStatus) -> None:
        """Write down how far a release has come."""
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE releases SET status = ? WHERE agent = ? AND number = ?",
                (status, release.agent, release.number),
            )

    def set_installed(self, release: Release, python: str) -> None:
        """Write down that a release is whole, and which interpreter it runs on."""
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE releases SET status = ?, python = ? WHERE agent = ? AND number = ?",
                (ReleaseStatus.INSTALLED, python, release.agent, release.number),
            )

    def remove(self, release: Release) -> None:
        """Forget a release."""
        with self._database.transaction() as connection:
            connection.execute(
                "DELETE FROM releases WHERE agent = ? AND number = ?",
                (release.agent, release.number),
            )

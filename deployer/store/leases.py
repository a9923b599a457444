"""Rows about port leases."""

from __future__ import annotations

import sqlite3
from datetime import datetime

from deployer.model import PortLease
from deployer.store.database import Database, now, to_text


def _lease(row: sqlite3.Row) -> PortLease:
    return PortLease(
        port=row["port"],
        agent=row["agent"],
        program=row["program"],
        leased_at=datetime.fromisoformat(row["leased_at"]),
    )


class LeaseRows:
    """Which program holds which port."""

    def __init__(self, database: Database) -> None:
        """Keep rows in database."""
        self._database = database

    def add(self, port: int, agent: str, program: str) -> bool:
        """Record a lease.

        Returns:
            False when somebody else got the port first: choose again.
        """
        with self._database.transaction() as connection:
            cursor = connection.execute(
                "INSERT INTO leases VALUES (?, ?, ?, ?) ON CONFLICT (port) DO NOTHING",
                (port, agent, program, to_text(now())),
            )
            return cursor.rowcount == 1

    def of_program(self, program: str) -> PortLease | None:
        """Find the port that a program holds."""
        row = self._database.find("SELECT * FROM leases WHERE program = ?", (program,))
        return None if row is None else _lease(row)

    def all(self) -> tuple[PortLease, ...]:
        """Read every lease, by port."""
        rows = self._database.read("SELECT * FROM leases ORDER BY port")
        return tuple(_lease(row) for row in rows)

    def ports(self) -> set[int]:
        """Read every port that is leased."""
        return {row["port"] for row in self._database.read("SELECT port FROM leases")}

    def free(self, program: str) -> None:
        """Free the port that a program holds, if it holds one."""
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM leases WHERE program = ?", (program,))

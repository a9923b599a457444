"""Rows of the audit: added, read, and never changed.

The triggers in the schema hold this against mistakes of our own; who can write the database's file
can write what they like.
"""

from __future__ import annotations

import sqlite3
from datetime import datetime

from deployer.audits import Entry
from deployer.store.database import Database, now, to_text


def _entry(row: sqlite3.Row) -> Entry:
    return Entry(
        id=row["id"],
        at=datetime.fromisoformat(row["at"]),
        who=row["who"],
        name=row["name"],
        source=row["source"],
        operation=row["operation"],
        agent=row["agent"],
        target=row["target"],
        status=row["status"],
        request_id=row["request_id"],
        times=row["times"],
    )


class AuditRows:
    """Who did what, in order, with a cursor."""

    def __init__(self, database: Database) -> None:
        """Keep rows in database."""
        self._database = database

    def add(self, entry: Entry) -> None:
        """Write an entry down; it gets its number and its time here."""
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO audit (at, who, name, source, operation, agent, target, status,"
                " request_id, times) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    to_text(now()),
                    entry.who,
                    entry.name,
                    entry.source,
                    entry.operation,
                    entry.agent,
                    entry.target,
                    entry.status,
                    entry.request_id,
                    entry.times,
                ),
            )

    def before(
        self, cursor: int | None, *, limit: int, agent: str | None = None, who: str | None = None
    ) -> tuple[Entry, ...]:
        """Read entries older than the cursor, the newest first.

        Args:
            cursor: The id of the oldest one that is known; None to begin with the newest.
            limit: How many at most.
            agent: Only what concerns this agent.
            who: Only what this caller did.
        """
        rows = self._database.read(
            "SELECT * FROM audit WHERE (? IS NULL OR id < ?) AND (? IS NULL OR agent = ?)"
            " AND (? IS NULL OR who = ?) ORDER BY id DESC LIMIT ?",
            (cursor, cursor, agent, agent, who, who, limit),
        )
        return tuple(_entry(row) for row in rows)

    def trim(self, before: datetime) -> int:
        """Delete what came before all that is younger than a time, and write that down.

        An entry of a clock that was wrong may stay longer, and takes none with it.

        Returns:
            How many entries went.
        """
        with self._database.transaction() as connection:
            (floor,) = connection.execute(
                "SELECT coalesce(min(id) - 1, (SELECT max(id) FROM audit), 0) FROM audit"
                " WHERE at >= ?",
                (to_text(before),),
            ).fetchone()
            connection.execute("UPDATE audit_floor SET id = max(id, ?)", (floor,))
            gone = connection.execute("DELETE FROM audit WHERE id <= ?", (floor,)).rowcount
            if gone:
                words = f"up to {floor}, written before {before:%Y-%m-%d}"
                self.add(
                    Entry(
                        who="server",
                        operation="trim the audit",
                        source="",
                        status=0,
                        target=words,
                        times=gone,
                    )
                )
        return gone

"""Rows of the timeline."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from deployer.model import Event
from deployer.store.database import Database, now, to_text

_KEPT: Final = 10_000


class EventRows:
    """What happened, in order, with a cursor."""

    def __init__(self, database: Database) -> None:
        """Keep rows in database."""
        self._database = database

    def add(self, kind: str, agent: str, message: str) -> None:
        """Write down what happened now; the oldest line goes when there are too many."""
        with self._database.transaction() as connection:
            cursor = connection.execute(
                "INSERT INTO events (at, agent, kind, message) VALUES (?, ?, ?, ?)",
                (to_text(now()), agent, kind, message),
            )
            connection.execute(
                "DELETE FROM events WHERE id <= ?", ((cursor.lastrowid or 0) - _KEPT,)
            )

    def after(self, cursor: int, *, limit: int, agent: str | None = None) -> tuple[Event, ...]:
        """Read events newer than the cursor, the oldest first.

        Args:
            cursor: The id of the last event that is known; 0 for all.
            limit: How many at most.
            agent: Only what concerns this agent.
        """
        rows = self._database.connection.execute(
            "SELECT * FROM events WHERE id > ? AND (? IS NULL OR agent = ?) ORDER BY id LIMIT ?",
            (cursor, agent, agent, limit),
        )
        return tuple(
            Event(
                id=row["id"],
                at=datetime.fromisoformat(row["at"]),
                agent=row["agent"],
                kind=row["kind"],
                message=row["message"],
            )
            for row in rows
        )

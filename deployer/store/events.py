"""Rows of the timeline."""

from __future__ import annotations

import json
import logging
import sqlite3
from datetime import datetime
from typing import Final

from deployer import log_fields
from deployer.agent_patterns import EVERY_AGENT
from deployer.event_kinds import EventKind, is_bad
from deployer.model import Event
from deployer.store.damaged_rows import CarefulReader
from deployer.store.database import UNKNOWN_TIME, Database, now, to_text

_log: Final = logging.getLogger(__name__)


class EventRows:
    """What happened, in order, with a cursor."""

    def __init__(self, database: Database) -> None:
        """Keep rows in database."""
        self._database = database

    def add(self, kind: EventKind, agent: str, message: str) -> None:
        """Write down what happened now, and say it in the server's log too.

        Args:
            kind: What it is about.
            agent: Whom it concerns; empty for the server itself.
            message: A sentence that names who and what.
        """
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO events (at, agent, kind, message) VALUES (?, ?, ?, ?)",
                (to_text(now()), agent, kind, message),
            )
        fields = {"event": kind, **({"agent": agent} if agent else {})}
        level = logging.WARNING if is_bad(kind) else logging.INFO
        _log.log(level, "%s", message, extra={log_fields.EXTRA: fields})

    def go_on_behind_lost(self) -> None:
        """Number what follows behind all that a lost database may have held.

        Else whoever reads on from a cursor would miss everything until the numbers have come that
        far again. The seconds since 1970 are behind it: lines come more slowly than that, and the
        next loss is later.
        """
        with self._database.transaction() as connection:
            number = int(now().timestamp())
            connection.execute("DELETE FROM sqlite_sequence WHERE name = 'events'")
            connection.execute("INSERT INTO sqlite_sequence VALUES ('events', ?)", (number,))

    def span(self) -> tuple[int, int]:
        """Give the id of the oldest line that is kept, and the latest one that was given out.

        Where no line is kept, the first is the one that comes next.
        """
        [row] = self._database.read(
            "SELECT (SELECT min(id) FROM events),"
            " coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'events'), 0)"
        )
        last = int(row[1])
        return last + 1 if row[0] is None else int(row[0]), last

    def trim(self, *, kept: int, before: datetime) -> int:
        """Delete what nobody will ask for any more; meant for now and then, not for each line.

        Args:
            kept: How many of the latest lines stay.
            before: Lines older than this go, however few there are.

        Returns:
            How many lines went.
        """
        with self._database.transaction() as connection:
            cursor = connection.execute(
                "DELETE FROM events WHERE at < ? OR id <="
                " (SELECT id FROM events ORDER BY id DESC LIMIT 1 OFFSET ?)",
                (to_text(before), kept),
            )
        return cursor.rowcount

    def after(
        self,
        cursor: int,
        *,
        limit: int,
        agent: str | None = None,
        patterns: tuple[str, ...] = EVERY_AGENT,
    ) -> tuple[Event, ...]:
        """Read events newer than the cursor, the oldest first.

        Args:
            cursor: The id of the last event that is known; 0 for all.
            limit: How many at most.
            agent: Only what concerns this agent.
            patterns: Only what concerns agents of such names.
        """
        rows = self._database.read(
            "SELECT * FROM events WHERE id > ? AND (? IS NULL OR agent = ?)"
            " AND EXISTS (SELECT 1 FROM json_each(?) WHERE agent GLOB value) ORDER BY id LIMIT ?",
            (cursor, agent, agent, json.dumps(patterns), limit),
        )
        return tuple(map(_event, rows))

    def latest(
        self,
        *,
        limit: int,
        agent: str | None = None,
        patterns: tuple[str, ...] = EVERY_AGENT,
    ) -> tuple[Event, ...]:
        """Read what happened last, the newest first.

        Args:
            limit: How many at most.
            agent: Only what concerns this agent.
            patterns: Only what concerns agents of such names.
        """
        rows = self._database.read(
            "SELECT * FROM events WHERE (? IS NULL OR agent = ?)"
            " AND EXISTS (SELECT 1 FROM json_each(?) WHERE agent GLOB value)"
            " ORDER BY id DESC LIMIT ?",
            (agent, agent, json.dumps(patterns), limit),
        )
        return tuple(map(_event, rows))


def _event(row: sqlite3.Row) -> Event:
    """Read a row; one that is damaged is told all the same, or who reads on would stop at it."""
    reader = CarefulReader(row)
    at = reader.read("at", datetime.fromisoformat, UNKNOWN_TIME)
    message = row["message"]
    if reader.damage:
        message = f"{message} (its row in state.db is damaged: {reader.damage})"
    return Event(id=row["id"], at=at, agent=row["agent"], kind=row["kind"], message=message)

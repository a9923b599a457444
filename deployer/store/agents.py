"""Rows about agents."""

from __future__ import annotations

import sqlite3
from datetime import datetime
from typing import Final

from deployer.errors import AgentUnknownError
from deployer.model import Agent, Desired
from deployer.store.database import Database, now, to_text

_SELECT: Final = (
    "SELECT *, current IS NULL OR EXISTS (SELECT 1 FROM releases WHERE agent = name"
    " AND number = current) AS is_whole FROM agents"
)


def _agent(row: sqlite3.Row) -> Agent:
    """Read a row; one that was damaged stands for an agent in quarantine, not for an error."""
    lost = "" if row["is_whole"] else f"its current release {row['current']} is not in state.db"
    try:
        return Agent(
            name=row["name"],
            desired=Desired(row["desired"]),
            desired_at=datetime.fromisoformat(row["desired_at"]),
            current=row["current"],
            previous=row["previous"],
            port=row["port"],
            created_at=datetime.fromisoformat(row["created_at"]),
            last_error=row["last_error"],
            last_hint=row["last_hint"],
            quarantine=lost or row["quarantine"],
            isolation=row["isolation"],
        )
    except ValueError as error:
        return Agent(
            name=row["name"],
            desired=Desired.STOPPED,
            desired_at=now(),
            current=row["current"],
            previous=row["previous"],
            port=row["port"],
            created_at=now(),
            quarantine=f"its row in state.db is damaged: {error}",
            is_readable=False,
        )


class AgentRows:
    """Names under which releases run."""

    def __init__(self, database: Database) -> None:
        """Keep rows in database."""
        self._database = database

    def get(self, name: str) -> Agent:
        """Read one agent.

        Raises:
            AgentUnknownError: There is none of this name.
        """
        agent = self.find(name)
        if agent is None:
            raise AgentUnknownError(f"No such agent: {name}", cause=f"No such agent: {name}")
        return agent

    def find(self, name: str) -> Agent | None:
        """Read one agent if it is there."""
        row = self._database.find(f"{_SELECT} WHERE name = ?", (name,))
        return None if row is None else _agent(row)

    def all(self) -> tuple[Agent, ...]:
        """Read every agent, by name."""
        rows = self._database.read(f"{_SELECT} ORDER BY name")
        return tuple(_agent(row) for row in rows)

    def count(self) -> int:
        """Count the agents."""
        [(number,)] = self._database.read("SELECT count(*) FROM agents")
        return int(number)

    def add(self, name: str) -> Agent:
        """Add an agent, stopped and without a release, or return the one that is there."""
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO agents (name, desired, desired_at, created_at) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (name) DO NOTHING",
                (name, Desired.STOPPED, to_text(now()), to_text(now())),
            )
        return self.get(name)

    def set_desired(self, name: str, desired: Desired, at: datetime | None = None) -> None:
        """Write down what somebody asked for, and when; None: just now."""
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE agents SET desired = ?, desired_at = ? WHERE name = ?",
                (desired, to_text(at or now()), name),
            )

    def set_port(self, name: str, port: int) -> None:
        """Write down the port to ask for again."""
        self._set(name, "port", port)

    def set_last_error(self, name: str, sentence: str, hint: str = "") -> None:
        """Write down why it is not running, and what to do; empty when all is well."""
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE agents SET last_error = ?, last_hint = ? WHERE name = ?"
                " AND (last_error, last_hint) IS NOT (?, ?)",
                (sentence, hint, name, sentence, hint),
            )

    def set_quarantine(self, name: str, reason: str) -> None:
        """Write down what of it is damaged; empty lets it out again."""
        self._set(name, "quarantine", reason)

    def set_isolation(self, name: str, level: str) -> None:
        """Write down at which level its process was started."""
        self._set(name, "isolation", level)

    def activate(self, name: str, current: int | None, previous: int | None) -> None:
        """Make a release current; previous is the one to go back to."""
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE agents SET current = ?, previous = ? WHERE name = ?",
                (current, previous, name),
            )

    def remove(self, name: str) -> None:
        """Forget an agent with its releases and leases."""
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM agents WHERE name = ?", (name,))

    def _set(self, name: str, column: str, value: str | int) -> None:
        with self._database.transaction() as connection:
            connection.execute(
                f"UPDATE agents SET {column} = ? WHERE name = ?"  # noqa: S608 - our own words
                f" AND {column} IS NOT ?",
                (value, name, value),
            )

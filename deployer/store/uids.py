"""Rows about the users that agents run as."""

from __future__ import annotations

from deployer.store.database import Database


class UidRows:
    """Which agent has which uid."""

    def __init__(self, database: Database) -> None:
        """Keep rows in database."""
        self._database = database

    def find(self, agent: str) -> int | None:
        """Read the uid of an agent, if it has one."""
        row = self._database.find("SELECT uid FROM uids WHERE agent = ?", (agent,))
        return None if row is None else int(row["uid"])

    def all(self) -> dict[str, int]:
        """Read every uid, by agent."""
        rows = self._database.read("SELECT agent, uid FROM uids ORDER BY agent")
        return {row["agent"]: int(row["uid"]) for row in rows}

    def given(self) -> int:
        """Count the uids that were ever given."""
        row = self._database.find("SELECT seq FROM sqlite_sequence WHERE name = 'uids'")
        return 0 if row is None else int(row["seq"])

    def add(self, agent: str, uid: int) -> bool:
        """Record a uid.

        Returns:
            False when somebody else got it first: choose again.
        """
        with self._database.transaction() as connection:
            cursor = connection.execute(
                "INSERT INTO uids (uid, agent) VALUES (?, ?) ON CONFLICT DO NOTHING", (uid, agent)
            )
            return cursor.rowcount == 1

    def remove(self, agent: str) -> None:
        """Forget the uid of an agent; nothing on this machine may belong to it any more."""
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM uids WHERE agent = ?", (agent,))

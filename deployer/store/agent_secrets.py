"""Rows about secrets: encrypted, and never read by anybody but `deployer.agent_secrets`."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass, field
from datetime import UTC, datetime

from deployer.errors import SecretUnknownError
from deployer.store.database import Database, to_text


@dataclass(frozen=True, slots=True)
class SecretRow:
    """A secret as it is kept.

    Attributes:
        name: Unique on this server.
        agents: Patterns of the agents that may use it.
        key_id: Of the key that it is encrypted with.
        sealed: Its value, encrypted together with name and agents.
        created_at: When it was first set.
        changed_at: When it was last set.
    """

    name: str
    agents: tuple[str, ...]
    key_id: str
    sealed: bytes = field(repr=False)
    created_at: datetime
    changed_at: datetime


def _secret(row: sqlite3.Row) -> SecretRow:
    try:
        agents = tuple(str(pattern) for pattern in json.loads(row["agents"]))
        created_at = datetime.fromisoformat(row["created_at"])
        changed_at = datetime.fromisoformat(row["changed_at"])
    except (ValueError, TypeError):  # damaged: shown as one that cannot be decrypted
        epoch = datetime.fromtimestamp(0, UTC)
        return SecretRow(row["name"], (), row["key_id"], b"", epoch, epoch)
    return SecretRow(row["name"], agents, row["key_id"], row["sealed"], created_at, changed_at)


class SecretRows:
    """Secrets by name, and what they were before."""

    def __init__(self, database: Database) -> None:
        """Keep rows in database."""
        self._database = database

    def all(self) -> tuple[SecretRow, ...]:
        """Read every secret, by name."""
        rows = self._database.read("SELECT * FROM agent_secrets ORDER BY name")
        return tuple(_secret(row) for row in rows)

    def find(self, name: str) -> SecretRow | None:
        """Read a secret; None when there is none of this name."""
        row = self._database.find("SELECT * FROM agent_secrets WHERE name = ?", (name,))
        return None if row is None else _secret(row)

    def former(self, name: str) -> tuple[SecretRow, ...]:
        """Read what a secret was before it was changed or removed, oldest first."""
        rows = self._database.read(
            "SELECT * FROM former_secrets WHERE name = ? ORDER BY id", (name,)
        )
        return tuple(_secret(row) for row in rows)

    def names_of_former(self) -> tuple[str, ...]:
        """Name the secrets that were another one once, by name."""
        rows = self._database.read("SELECT DISTINCT name FROM former_secrets ORDER BY name")
        return tuple(row["name"] for row in rows)

    def forget_former(self, name: str, *, kept: int = 0) -> None:
        """Forget what a secret was before, but the last few."""
        with self._database.transaction() as connection:
            connection.execute(
                "DELETE FROM former_secrets WHERE name = ? AND id NOT IN"
                " (SELECT id FROM former_secrets WHERE name = ? ORDER BY id DESC LIMIT ?)",
                (name, name, kept),
            )

    def put(self, secret: SecretRow, *, keep_former: bool = True) -> None:
        """Add a secret, or change the one of its name; that one's first time stays."""
        with self._database.transaction() as connection:
            if keep_former:
                _keep_former(connection, secret.name)
            connection.execute(
                "INSERT INTO agent_secrets"
                " (name, agents, key_id, sealed, created_at, changed_at) VALUES (?, ?, ?, ?, ?, ?)"
                " ON CONFLICT (name) DO UPDATE SET agents = excluded.agents,"
                " key_id = excluded.key_id, sealed = excluded.sealed,"
                " changed_at = excluded.changed_at",
                (
                    secret.name,
                    json.dumps(secret.agents),
                    secret.key_id,
                    secret.sealed,
                    to_text(secret.created_at),
                    to_text(secret.changed_at),
                ),
            )

    def remove(self, name: str) -> None:
        """Make a secret a former one.

        Raises:
            SecretUnknownError: There is none of this name.
        """
        with self._database.transaction() as connection:
            _keep_former(connection, name)
            cursor = connection.execute("DELETE FROM agent_secrets WHERE name = ?", (name,))
        if cursor.rowcount == 0:
            raise SecretUnknownError(
                f"cannot remove secret {name[:80]!r}: there is none of this name",
                cause=f"No such secret: {name[:80]}",
                hint="GET /v1/secrets lists those that there are",
            )


def _keep_former(connection: sqlite3.Connection, name: str) -> None:
    columns = "name, agents, key_id, sealed, created_at, changed_at"
    connection.execute(
        f"INSERT INTO former_secrets ({columns}) SELECT {columns} FROM agent_secrets"  # noqa: S608 - names of our own columns
        " WHERE name = ?",
        (name,),
    )

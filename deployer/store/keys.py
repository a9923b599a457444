"""Rows about API keys."""

from __future__ import annotations

import json
import sqlite3
from datetime import datetime

from deployer.errors import KeyUnknownError
from deployer.keys import Key, Scope
from deployer.store.database import Database, now, to_text, to_time


def _key(row: sqlite3.Row) -> Key:
    return Key(
        id=row["id"],
        name=row["name"],
        scope=Scope(row["scope"]),
        agents=tuple(json.loads(row["agents"])),
        digest=row["digest"],
        created_at=datetime.fromisoformat(row["created_at"]),
        expires_at=to_time(row["expires_at"]),
        last_used_at=to_time(row["last_used_at"]),
        is_local=bool(row["is_local"]),
    )


class KeyRows:
    """Keys that let somebody in; a key that was revoked has no row."""

    def __init__(self, database: Database) -> None:
        """Keep rows in database."""
        self._database = database
        self._found: tuple[int, dict[str, Key]] = -1, {}

    def add(self, key: Key) -> None:
        """Add a key; a local one takes the place of the local one before it."""
        with self._database.transaction() as connection:
            if key.is_local:
                connection.execute("DELETE FROM keys WHERE is_local")
            connection.execute(
                "INSERT INTO keys (id, name, scope, agents, digest, created_at, expires_at,"
                " is_local) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    key.id,
                    key.name,
                    key.scope,
                    json.dumps(key.agents),
                    key.digest,
                    to_text(key.created_at),
                    to_text(key.expires_at),
                    key.is_local,
                ),
            )

    def find(self, digest: str) -> Key | None:
        """Look up the key whose text has this SHA-256.

        How long that takes tells something about hashes, and nothing about the texts behind them.
        What was found is remembered until anybody commits anything: each request asks.
        """
        generation = self._database.generation  # read before the row, so that none is kept too long
        known, keys = self._found
        if known != generation:
            keys = {}
            self._found = generation, keys
        elif digest in keys:
            return keys[digest]
        row = self._database.find("SELECT * FROM keys WHERE digest = ?", (digest,))
        if row is None:  # not remembered: strangers could fill our memory
            return None
        keys[digest] = _key(row)
        return keys[digest]

    def remembered(self, digest: str) -> Key | None:
        """Give what `find` would, as far as that is known without a look into the database."""
        generation, keys = self._found
        return keys.get(digest) if generation == self._database.generation else None

    def get(self, key_id: str) -> Key:
        """Read a key.

        Raises:
            KeyUnknownError: There is none of this id, or it was revoked.
        """
        row = self._database.find("SELECT * FROM keys WHERE id = ?", (key_id,))
        if row is None:
            raise KeyUnknownError(
                f"cannot find key {key_id[:80]!r}: there is none of this id, or it is revoked",
                cause="No such key",
                hint="GET /v1/keys lists what there is",
            )
        return _key(row)

    def all(self) -> tuple[Key, ...]:
        """Read every key, the oldest first."""
        rows = self._database.read("SELECT * FROM keys ORDER BY created_at, id")
        return tuple(_key(row) for row in rows)

    def set_used(self, key_id: str) -> None:
        """Write down that a key lets somebody in now."""
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE keys SET last_used_at = ? WHERE id = ?", (to_text(now()), key_id)
            )

    def remove(self, key_id: str) -> None:
        """Forget a key: from now on it lets nobody in."""
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM keys WHERE id = ?", (key_id,))

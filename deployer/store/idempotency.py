"""Rows about requests that may come again, by the Idempotency-Key that they came with."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from deployer.store.database import Database, now, to_text

KEPT: Final = timedelta(hours=24)
MOST: Final = 1000
"""How many keys of one caller are kept; the oldest go for new ones."""


@dataclass(frozen=True, slots=True)
class Repeatable:
    """A request that came with a key.

    Attributes:
        fingerprint: What it asked for: the same key with another one is a mistake.
        deployment: The id of the deployment that it began; None: none yet.
        answer: How it was answered, sealed; None: not yet.
    """

    fingerprint: str
    deployment: str | None
    answer: bytes | None


class IdempotencyRows:
    """What was asked with a key, and how it was answered; for a day.

    The deployment that came of it is written by `DeploymentRows.submit`, in the transaction that
    queues it.
    """

    def __init__(self, database: Database) -> None:
        """Keep rows in database."""
        self._database = database

    def find(self, row_id: str) -> Repeatable | None:
        """Look up what was asked with a key; what is older than a day is not known any more."""
        row = self._database.find(
            "SELECT fingerprint, deployment, answer FROM idempotency_keys"
            " WHERE id = ? AND made_at > ?",
            (row_id, to_text(now() - KEPT)),
        )
        if row is None:
            return None
        deployment = None if row["deployment"] is None else str(row["deployment"])
        return Repeatable(row["fingerprint"], deployment, row["answer"])

    def begin(self, row_id: str, who: str, fingerprint: str) -> None:
        """Write down that something is about to be done, in the place of the caller's oldest."""
        with self._database.transaction() as connection:
            self.trim(now() - KEPT)
            connection.execute(
                "DELETE FROM idempotency_keys WHERE id IN (SELECT id FROM idempotency_keys"
                " WHERE who = ? ORDER BY made_at DESC, id LIMIT -1 OFFSET ?)",
                (who, MOST - 1),
            )
            connection.execute(
                "INSERT OR REPLACE INTO idempotency_keys (id, who, fingerprint, made_at)"
                " VALUES (?, ?, ?, ?)",
                (row_id, who, fingerprint, to_text(now())),
            )

    def keep(self, row_id: str, answer: bytes) -> None:
        """Write down how it was answered."""
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE idempotency_keys SET answer = ? WHERE id = ?", (answer, row_id)
            )

    def forget(self, row_id: str) -> None:
        """Let the key be used anew, unless a deployment came of it."""
        with self._database.transaction() as connection:
            connection.execute(
                "DELETE FROM idempotency_keys WHERE id = ? AND deployment IS NULL", (row_id,)
            )

    def trim(self, before: datetime) -> None:
        """Delete what is older than a time."""
        with self._database.transaction() as connection:
            connection.execute(
                "DELETE FROM idempotency_keys WHERE made_at <= ?", (to_text(before),)
            )

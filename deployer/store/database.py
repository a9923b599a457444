"""One SQLite file: reads, transactions, and the schema by versions."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from deployer import faults
from deployer.store.connections import Connections

# One entry a version of the schema, applied in order and never changed once released.
_MIGRATIONS: Final = (
    """
    CREATE TABLE packages (
        sha256 TEXT PRIMARY KEY,
        md5 TEXT NOT NULL UNIQUE,
        size_bytes INTEGER NOT NULL,
        agent TEXT NOT NULL,
        version TEXT NOT NULL,
        received_at TEXT NOT NULL,
        manifest TEXT NOT NULL,
        requirements TEXT NOT NULL,
        entry_point TEXT NOT NULL,
        unpacked_bytes INTEGER NOT NULL,
        entries INTEGER NOT NULL
    ) STRICT;

    CREATE TABLE agents (
        name TEXT PRIMARY KEY,
        desired TEXT NOT NULL,
        desired_at TEXT NOT NULL,
        current INTEGER,
        previous INTEGER,
        port INTEGER,
        created_at TEXT NOT NULL,
        last_error TEXT NOT NULL DEFAULT '',
        quarantine TEXT NOT NULL DEFAULT '',
        isolation TEXT NOT NULL DEFAULT '',
        releases_made INTEGER NOT NULL DEFAULT 0
    ) STRICT;

    CREATE TABLE releases (
        agent TEXT NOT NULL REFERENCES agents (name) ON DELETE CASCADE,
        number INTEGER NOT NULL,
        status TEXT NOT NULL,
        md5 TEXT NOT NULL,
        sha256 TEXT NOT NULL,
        version TEXT NOT NULL,
        manifest TEXT NOT NULL,
        entry_point TEXT NOT NULL,
        python TEXT NOT NULL,
        created_at TEXT NOT NULL,
        PRIMARY KEY (agent, number)
    ) STRICT;

    -- Outlives its agent for as long as files of the uid lie about; numbers are never given again.
    CREATE TABLE uids (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        uid INTEGER NOT NULL UNIQUE,
        agent TEXT NOT NULL UNIQUE
    ) STRICT;

    -- The primary key is what lets only one of two choosers of the same port through.
    CREATE TABLE leases (
        port INTEGER PRIMARY KEY,
        agent TEXT NOT NULL REFERENCES agents (name) ON DELETE CASCADE,
        program TEXT NOT NULL UNIQUE,
        leased_at TEXT NOT NULL
    ) STRICT;

    CREATE TABLE deployments (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        agent TEXT NOT NULL,
        sha256 TEXT NOT NULL,
        md5 TEXT NOT NULL,
        strategy TEXT NOT NULL,
        start INTEGER NOT NULL,
        force INTEGER NOT NULL,
        status TEXT NOT NULL,
        created_at TEXT NOT NULL,
        release INTEGER,
        is_rollback INTEGER NOT NULL DEFAULT 0,
        started_at TEXT,
        ended_at TEXT,
        failure TEXT
    ) STRICT;
    CREATE INDEX deployments_by_agent ON deployments (agent, id);
    CREATE INDEX deployments_by_status ON deployments (status);
    CREATE UNIQUE INDEX one_running_deployment ON deployments (agent) WHERE status = 'running';

    CREATE TABLE steps (
        deployment INTEGER NOT NULL REFERENCES deployments (id) ON DELETE CASCADE,
        position INTEGER NOT NULL,
        name TEXT NOT NULL,
        started_at TEXT NOT NULL,
        ended_at TEXT,
        outcome TEXT NOT NULL,
        message TEXT NOT NULL DEFAULT '',
        PRIMARY KEY (deployment, position)
    ) STRICT;

    CREATE TABLE scans (
        deployment INTEGER NOT NULL REFERENCES deployments (id) ON DELETE CASCADE,
        position INTEGER NOT NULL,
        report TEXT NOT NULL,
        PRIMARY KEY (deployment, position)
    ) STRICT;

    CREATE TABLE events (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        at TEXT NOT NULL,
        agent TEXT NOT NULL,
        kind TEXT NOT NULL,
        message TEXT NOT NULL
    ) STRICT;
    CREATE INDEX events_by_agent ON events (agent, id);

    CREATE TABLE keys (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        scope TEXT NOT NULL,
        agents TEXT NOT NULL,
        digest TEXT NOT NULL UNIQUE,
        created_at TEXT NOT NULL,
        expires_at TEXT,
        last_used_at TEXT,
        is_local INTEGER NOT NULL
    ) STRICT;

    -- What happened stays as it was written. Entries go from the oldest on, and only below the
    -- floor, which rises in the transaction that writes down who raised it.
    CREATE TABLE audit (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        at TEXT NOT NULL,
        who TEXT NOT NULL,
        name TEXT NOT NULL,
        source TEXT NOT NULL,
        operation TEXT NOT NULL,
        agent TEXT NOT NULL,
        target TEXT NOT NULL,
        status INTEGER NOT NULL,
        request_id TEXT NOT NULL,
        times INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE audit_floor (id INTEGER NOT NULL) STRICT;
    INSERT INTO audit_floor VALUES (0);
    CREATE TRIGGER audit_is_not_rewritten BEFORE UPDATE ON audit
        BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
    -- REPLACE deletes without asking the triggers for that.
    CREATE TRIGGER audit_is_not_replaced BEFORE INSERT ON audit
        WHEN NEW.id IN (SELECT id FROM audit)
        BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
    CREATE TRIGGER audit_is_not_deleted BEFORE DELETE ON audit
        WHEN OLD.id > (SELECT id FROM audit_floor)
        BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;

    CREATE TABLE agent_secrets (
        name TEXT PRIMARY KEY,
        agents TEXT NOT NULL,
        key_id TEXT NOT NULL,
        sealed BLOB NOT NULL,
        created_at TEXT NOT NULL,
        changed_at TEXT NOT NULL
    ) STRICT;
    """,
    """
    -- What secrets were before: logs that were written with them are read for long after.
    CREATE TABLE former_secrets (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL,
        agents TEXT NOT NULL,
        key_id TEXT NOT NULL,
        sealed BLOB NOT NULL,
        created_at TEXT NOT NULL,
        changed_at TEXT NOT NULL
    ) STRICT;
    CREATE INDEX former_secrets_by_name ON former_secrets (name, id);
    """,
    "ALTER TABLE agents ADD COLUMN last_hint TEXT NOT NULL DEFAULT '';",
    """
    CREATE TABLE idempotency_keys (
        id TEXT PRIMARY KEY,
        who TEXT NOT NULL,
        fingerprint TEXT NOT NULL,
        made_at TEXT NOT NULL,
        deployment INTEGER,
        answer BLOB
    ) STRICT;
    CREATE INDEX idempotency_keys_by_who ON idempotency_keys (who, made_at);
    CREATE INDEX idempotency_keys_by_age ON idempotency_keys (made_at);
    """,
)


UNKNOWN_TIME: Final = datetime.fromtimestamp(0, UTC)
"""Stands for a time in a damaged row that cannot be read."""


def now() -> datetime:
    """Tell the time in UTC."""
    return datetime.now(UTC)


def to_text(moment: datetime | None) -> str | None:
    """Write a time as ISO 8601, the form in which rows keep it."""
    return None if moment is None else moment.isoformat()


def to_time(text: str | None) -> datetime | None:
    """Read a time back that may be missing."""
    return None if text is None else datetime.fromisoformat(text)


def _roll_back(connection: sqlite3.Connection) -> None:
    """Undo a transaction, unless SQLite has done so itself, as when the disk is full."""
    if connection.in_transaction:
        connection.execute("ROLLBACK")


class Database:
    """One SQLite file in WAL mode, read and written by any thread.

    A commit survives SIGKILL of this process. ``synchronous=NORMAL`` means that a power cut may
    take the last few commits with it, never the file's soundness; the start's recovery copes with
    directories whose row is gone, so each commit need not wait for the disk.
    """

    def __init__(self, path: Path) -> None:
        """Open path, made when it is not there, and bring its schema up to date.

        Agents may pass through its directory: nobody but its owner reads the file, and SQLite gives
        those beside it the same mode.
        """
        path.touch(mode=0o600)
        path.chmod(0o600)
        self._connections = Connections(path)
        self._local = threading.local()  # the connection of the thread's transaction
        self._changed = threading.Condition()
        self._generation = 0
        self._watchers: dict[str, list[threading.Event]] = {}
        self._migrate()

    def read(self, query: str, parameters: Sequence[Any] = ()) -> list[sqlite3.Row]:
        """Ask for rows; inside a transaction of the calling thread, as it has left them so far."""
        own: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if own is not None:
            return own.execute(query, parameters).fetchall()
        with self._connections.lent() as connection:
            return connection.execute(query, parameters).fetchall()

    def find(self, query: str, parameters: Sequence[Any] = ()) -> sqlite3.Row | None:
        """Ask for one row, like `read`."""
        rows = self.read(query, parameters)
        return rows[0] if rows else None

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Write all or nothing; a transaction inside another one joins it.

        ``BEGIN IMMEDIATE`` takes the write lock at once: a reader that turns writer half-way would
        meet SQLITE_BUSY without any waiting.
        """
        own: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if own is not None:
            yield own
            return
        with self._connections.lent() as connection:
            connection.execute("BEGIN IMMEDIATE")
            before = connection.total_changes
            self._local.connection, self._local.told = connection, set()
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                _roll_back(connection)  # or the next one would join it, and never commit
                raise
            finally:
                self._local.connection = None
            has_changed = connection.total_changes != before
        if not has_changed:
            return
        faults.reach("store.commit")
        with self._changed:
            self._generation += 1
            self._changed.notify_all()
            for watched in self._local.told:
                for news in self._watchers.get(watched, ()):
                    news.set()

    def tell(self, watched: str) -> None:
        """Say in a transaction what it changes: whoever watches that is woken once it commits."""
        self._local.told.add(watched)

    @contextmanager
    def watching(self, watched: str) -> Iterator[threading.Event]:
        """Give what is set by each commit that `tell` was called in for the same."""
        news = threading.Event()
        with self._changed:
            self._watchers.setdefault(watched, []).append(news)
        try:
            yield news
        finally:
            with self._changed:
                self._watchers[watched].remove(news)
                if not self._watchers[watched]:
                    del self._watchers[watched]

    @property
    def generation(self) -> int:
        """Count of commits of a change: as long as it stays, every answer would be the same."""
        return self._generation

    def wait_for_commit(self, generation: int, timeout_seconds: float) -> int:
        """Wait until somebody commits after generation was read, or the time is over.

        Returns:
            The generation now.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._generation != generation, timeout_seconds)
            return self._generation

    def close(self) -> None:
        """Close what nobody uses; the database must not be used after."""
        self._connections.close()

    def _migrate(self) -> None:
        with self._connections.lent() as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            for number, script in enumerate(_MIGRATIONS[version:], start=version + 1):
                connection.executescript(
                    f"BEGIN IMMEDIATE; {script} PRAGMA user_version = {number}; COMMIT;"
                )

"""Connections to one SQLite file, lent to whichever thread needs one."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_BUSY_SECONDS: Final = 10.0
_MOST_IDLE: Final = 4
_CACHE_KIB: Final = 256
"""For pages, each; what more is read again is in the kernel's memory anyway."""


class Connections:
    """As many as are used at once, and a few that wait.

    Each is 135 KiB, and knows the pages and statements that it has met: one for each of 50 threads
    would be 7 MiB.
    """

    def __init__(self, path: Path) -> None:
        """Lend connections to the database at path; none is made yet."""
        self._path = path
        self._guard = threading.Lock()
        self._idle: list[sqlite3.Connection] = []

    @contextmanager
    def lent(self) -> Iterator[sqlite3.Connection]:
        """Lend one that nobody else has; outside of any transaction when it comes and goes."""
        with self._guard:
            connection = self._idle.pop() if self._idle else None
        if connection is None:
            connection = self._open()
        try:
            yield connection
        finally:
            with self._guard:
                is_kept = len(self._idle) < _MOST_IDLE and not connection.in_transaction
                if is_kept:
                    self._idle.append(connection)
            if not is_kept:
                connection.close()

    def close(self) -> None:
        """Close those that wait."""
        with self._guard:
            for connection in self._idle:
                connection.close()
            self._idle.clear()

    def _open(self) -> sqlite3.Connection:
        # Autocommit: every transaction is opened by name, in `Database.transaction`.
        connection = sqlite3.connect(
            self._path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        return connection

"""Keeps the copy of the database up to date with what is meant, not only with what was deployed."""

from __future__ import annotations

import logging
import sqlite3
import threading
from typing import Final

from deployer.parts import Parts

_log: Final = logging.getLogger(__name__)

_PAUSE_SECONDS: Final = 0.5
_WAIT_SECONDS: Final = 5.0


class Copyist:
    """Copies the database within a second of each change of what somebody asked for.

    A database that is restored from an older copy would start an agent that was stopped since, and
    bring back one that was removed. In the background, so that no request waits for it; changes
    that come together make one copy.
    """

    def __init__(self, parts: Parts) -> None:
        """Work with the parts of one server; nothing happens before `start`."""
        self._store = parts.store
        self._copy = parts.state.database_copy
        self._ended = threading.Event()

    def start(self) -> None:
        """Begin to follow what is written."""
        threading.Thread(target=self._follow, name="copyist", daemon=True).start()

    def close(self) -> None:
        """Copy no more."""
        self._ended.set()

    def _follow(self) -> None:
        generation = -1
        while not self._ended.is_set():
            generation = self._store.wait_for_commit(generation, _WAIT_SECONDS)
            try:
                is_due = not self._store.has_copied(self._store.meaning())
            except sqlite3.Error:
                _log.exception("cannot tell whether the copy of the database is up to date")
                is_due = False
            if is_due:  # if it fails it is tried again, at the next commit or a little later
                self._store.keep_copy(self._copy)
            self._ended.wait(_PAUSE_SECONDS)

"""Refused attempts, counted for the audit: whoever is not let in must not fill the disk with it."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from deployer.audits import Entry

_WINDOW_SECONDS: Final = 60.0
_CALLERS: Final = 256
_ENTRIES_AT_ONCE: Final = 500
_ENTRIES_PER_SECOND: Final = 1 / 60
_EVERYBODY_ELSE: Final = "many addresses"
_KINDS: Final = 16
_EVERYTHING_ELSE: Final = "many operations"
_LOOKS: Final = ("GET ", "HEAD ")
_log: Final = logging.getLogger(__name__)

_Kind = tuple[str, str, int, str, str]


@dataclass(slots=True)
class _Count:
    entry: Entry
    times: int
    written_at: float


class Refusals:
    """Writes the first refusal of a kind at once, and those that follow as one a minute.

    Who is unknown is of one kind by address and status; of a known caller each act that is refused
    is a kind of its own, so that it does not hide among looks, up to so many.

    Beyond so many addresses the others count as one, and beyond so many entries they wait until
    some may be written again: an attack of a year from everywhere is some hundred megabytes.
    """

    def __init__(
        self, write: Callable[[Entry], None], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Count nothing yet.

        Args:
            write: Adds an entry to the audit.
            clock: Seconds that never go back.
        """
        self._write = write
        self._clock = clock
        self._guard = threading.Lock()
        self._counts: dict[_Kind, _Count] = {}
        self._budget = float(_ENTRIES_AT_ONCE)
        self._filled_at = clock()

    def note(self, entry: Entry) -> None:
        """Count a refusal; entry says what was tried, by whom and from where."""
        with self._guard:
            moment = self._clock()
            kind = _kind(entry)
            if kind not in self._counts:
                self._forget_quiet(moment)
                if sum(each[1] == entry.who for each in self._counts) >= _KINDS and entry.who:
                    entry = replace(entry, operation=_EVERYTHING_ELSE, agent="", target="")
                    kind = _kind(entry)
            if kind not in self._counts and len(self._counts) >= _CALLERS:
                entry = replace(entry, source=_EVERYBODY_ELSE, who="", name="", agent="")
                kind = _kind(entry)
            count = self._counts.setdefault(kind, _Count(entry, 0, moment - _WINDOW_SECONDS))
            count.times += 1
            self._write_due(moment)

    def flush(self) -> None:
        """Write what was counted and not written yet."""
        with self._guard:
            self._write_due(self._clock() + _WINDOW_SECONDS)

    def _forget_quiet(self, moment: float) -> None:
        self._counts = {
            kind: count
            for kind, count in self._counts.items()
            if count.times or moment - count.written_at < _WINDOW_SECONDS
        }

    def _write_due(self, moment: float) -> None:
        now = self._clock()
        earned = (now - self._filled_at) * _ENTRIES_PER_SECOND
        self._budget = min(_ENTRIES_AT_ONCE, self._budget + earned)
        self._filled_at = now
        for count in self._counts.values():
            if not count.times or moment - count.written_at < _WINDOW_SECONDS:
                continue
            if self._budget < 1:
                return
            try:
                self._write(replace(count.entry, times=count.times))
            except sqlite3.Error:  # a full disk; it is counted on, and tried again
                _log.warning("cannot write refusals down", exc_info=True)
                return
            self._budget -= 1
            count.times, count.written_at = 0, now


def _kind(entry: Entry) -> _Kind:
    tells = entry.who and not entry.operation.startswith(_LOOKS)
    what = (entry.operation, entry.agent) if tells else ("", "")
    return entry.source, entry.who, entry.status, *what

"""Rows of which something cannot be read: the rest counts, and nobody else's rows suffer."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any, Final, TypeVar

_T = TypeVar("_T")

UNREADABLE: Final = (ValueError, TypeError, KeyError, AttributeError)
"""What garbage in a column raises: no such word, no time, no JSON, or JSON of another shape."""


class CarefulReader:
    """Reads columns of one row, and keeps what is wrong with it.

    A disk or a hand may have changed a row. Were that an error, one row would keep a whole list
    from being read, and with it everything that is done by the list.
    """

    def __init__(self, row: sqlite3.Row) -> None:
        """Read row."""
        self._row = row
        self._damage: list[str] = []

    def read(self, column: str, convert: Callable[[Any], _T], otherwise: _T) -> _T:
        """Read a column; what cannot be read is `otherwise`, and noted."""
        try:
            return convert(self._row[column])
        except UNREADABLE as error:
            self._damage.append(f"{column}: {error}")
            return otherwise

    @property
    def damage(self) -> str:
        """What could not be read so far; empty: nothing was damaged."""
        return "; ".join(self._damage)

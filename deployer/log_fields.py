"""What every line of the server's own log carries: whose request it was, which deployment.

The fields travel with the thread of control, so whoever logs need not know them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar, Token
from types import MappingProxyType
from typing import Final

Fields = Mapping[str, str | int | float]
"""Values by name, as they stand in a line."""

EXTRA: Final = "fields"
"""Where one line's own fields stand: ``log.info(..., extra={EXTRA: {...}})``."""

MAY_WAIT: Final = "may_wait"
"""True there: the line may be written a moment later, together with others."""

_NONE: Final[Fields] = MappingProxyType({})
_current: Final[ContextVar[Fields]] = ContextVar("log_fields", default=_NONE)


@contextmanager
def within(**fields: str) -> Iterator[None]:
    """Have every line that is logged in a block carry these fields, beside those around it."""
    token = begin(**fields)
    try:
        yield
    finally:
        end(token)


def begin(**fields: str) -> Token[Fields]:
    """Begin what `within` is a block of, for whoever has no block; give it to `end`."""
    return _current.set({**_current.get(), **fields})


def end(token: Token[Fields]) -> None:
    """End what `begin` has begun, in the same thread of control."""
    _current.reset(token)


def note(**fields: str) -> None:
    """Have every line from here to the end of the innermost `within` carry these fields too.

    Outside of all of them nothing would ever end it, so there nothing is noted.
    """
    if _current.get() is not _NONE:
        _current.set({**_current.get(), **fields})


def current() -> Fields:
    """Give the fields that hold here and now."""
    return _current.get()

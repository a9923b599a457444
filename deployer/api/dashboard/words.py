"""Figures as people read them at a glance: coarse, so that a page at rest does not flicker."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from deployer.store import now

_SOON_SECONDS: Final = 10
_MINUTE: Final = timedelta(minutes=1)
_HOUR: Final = timedelta(hours=1)
_DAY: Final = timedelta(days=1)
_MIB: Final = 1024 * 1024
_GIB: Final = 1024 * _MIB
_TENTHS_BELOW: Final = 10


def age(moment: datetime, *, at: datetime | None = None) -> str:
    """Say how long ago something was: ``just now``, ``20 s``, ``5 min``, ``2 h 5 min``, ``3 d``.

    Args:
        moment: When it was.
        at: Seen from when; by default from now.
    """
    passed = max(timedelta(), (at or now()) - moment)
    if passed < _MINUTE:
        tens = int(passed.total_seconds()) // _SOON_SECONDS * _SOON_SECONDS
        return f"{tens} s" if tens else "just now"
    if passed < _HOUR:
        return f"{passed // _MINUTE} min"
    if passed < _DAY:
        hours, rest = divmod(passed, _HOUR)
        return f"{hours} h {rest // _MINUTE} min"
    return f"{passed // _DAY} d"


def ago(moment: datetime, *, at: datetime | None = None) -> str:
    """Say the same behind a sentence: ``just now``, ``5 min ago``."""
    words = age(moment, at=at)
    return words if words == "just now" else f"{words} ago"


def uptime(moment: datetime, *, at: datetime | None = None) -> str:
    """Say for how long something has been so: ``0 s``, ``5 min``."""
    words = age(moment, at=at)
    return "0 s" if words == "just now" else words


def duration(begin: datetime | None, end: datetime | None) -> str:
    """Say how long something took; empty while it has not ended."""
    if begin is None or end is None:
        return ""
    return f"{(end - begin).total_seconds():.1f} s"


def percent(cpus: float) -> str:
    """Write CPU seconds a second as shares of one CPU."""
    return f"{cpus * 100:.0f} %"


def memory(size_bytes: float) -> str:
    """Write an amount of memory in the unit that fits."""
    if size_bytes >= _GIB:
        return f"{size_bytes / _GIB:.1f} GiB"
    mib = size_bytes / _MIB
    return f"{mib:.1f} MiB" if mib < _TENTHS_BELOW else f"{mib:.0f} MiB"


def count(number: int, noun: str) -> str:
    """Write how many there are of something: ``1 agent``, ``2 agents``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def names(several: list[str], most: int = 3) -> str:
    """List names as a sentence does: ``a, b and c``, ``a, b, c and 4 more``."""
    shown = several[:most]
    if len(several) > most:
        return f"{', '.join(shown)} and {len(several) - most} more"
    *first, last = shown
    return f"{', '.join(first)} and {last}" if first else last

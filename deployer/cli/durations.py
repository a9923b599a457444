"""Times and time spans as people read them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

_MINUTE: Final = 60
_UNITS: Final = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def age(moment: datetime | None) -> str | None:
    """Say how long ago something was, in its largest unit: ``5 min``."""
    if moment is None:
        return None
    seconds = max(0, int((datetime.now(UTC) - moment).total_seconds()))
    size, unit = next((each for each in _UNITS if seconds >= each[0]), _UNITS[-1])
    return f"{seconds // size} {unit}"


def seconds_text(seconds: float) -> str:
    """Say how long something took: ``0.4 s``, ``2 min 5 s``."""
    if seconds < _MINUTE:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), _MINUTE)
    return f"{minutes} min {rest} s"

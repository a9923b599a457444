"""How long a request is tried again that did not get through, and what says that it may be."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Final

from deployer.errors import IdempotencyKeyInUseError, TooManyAttemptsError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

IDEMPOTENT_METHODS: Final = frozenset({"GET", "HEAD", "PUT", "DELETE"})
"""Sent twice, they do no more than once (RFC 9110, 9.2.2)."""

PAUSES: Final = (0.2, 0.8)
"""Seconds between attempts to reach a server that nobody has seen yet."""

PATIENT_PAUSES: Final = (0.2, 0.8, 2.0, 4.0)
"""Enough for an API that was there a moment ago to be started again by its supervisor."""

MOST_TOLD_SECONDS: Final = 30.0
"""How long one request waits, all in all, because the server said when to ask again."""

_JITTER: Final = 0.25
_AGAIN: Final = frozenset({429, 503})
_CONFLICT: Final = 409


class Retries:
    """What is left of the patience for one request."""

    def __init__(self, pauses: Sequence[float]) -> None:
        """Try as many times again as there are pauses, in seconds; none: never."""
        self._pauses = list(pauses)
        self._told_seconds = MOST_TOLD_SECONDS if pauses else 0.0

    def pause(self) -> bool:
        """Wait, and say whether to try again; False at once when it was tried often enough."""
        if not self._pauses:
            return False
        _sleep(self._pauses.pop(0))
        return True

    def pause_as_told(self, seconds: float) -> bool:
        """Wait as long as the server asked for, unless that is too long."""
        if seconds > self._told_seconds:
            return False
        self._told_seconds -= max(seconds, min(PAUSES))  # "0" must not be asked for ever
        _sleep(max(seconds, min(PAUSES)))
        return True


def told_seconds(
    status: int, headers: Mapping[str, str], document: Mapping[str, Any] | None
) -> float | None:
    """Read when a server asks to be asked again; None: it does not.

    Args:
        status: Of the answer.
        headers: Of the answer.
        document: The problem that it tells of.
    """
    text = headers.get("Retry-After", "").strip()
    if not (text.isascii() and text.isdecimal()):  # a date is nothing to wait for
        return None
    code = (document or {}).get("code")
    if code == TooManyAttemptsError.code:  # the key is wrong, and stays so
        return None
    if status in _AGAIN or (status == _CONFLICT and code == IdempotencyKeyInUseError.code):
        return float(text)
    return None


def _sleep(seconds: float) -> None:
    """Wait a little more or less: many clients that lost one server must not be back at once."""
    time.sleep(seconds * random.uniform(1.0, 1.0 + _JITTER))  # noqa: S311 - no secret

"""How well agents are kept apart, and what was seen of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class IsolationLevel(StrEnum):
    """How well agents are kept apart from each other and from the server, the best first."""

    FULL = "full"  # own uids, and Landlock closes what those leave open
    UID = "uid"  # own uids; free ports and abstract sockets are open
    LANDLOCK_NS = "landlock+ns"  # one uid, Landlock, and files of others do not exist
    LANDLOCK = "landlock"  # one uid; the contents of others' files are closed
    NONE = "none"

    def is_at_least(self, other: IsolationLevel) -> bool:
        """Tell whether this is as good as another level, or better."""
        order = list(IsolationLevel)
        return order.index(self) <= order.index(other)


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing about isolation that was tried.

    Attributes:
        name: A stable word, such as ``own-uid``.
        holds: Whether it is so.
        detail: What was seen, a few words.
    """

    name: str
    holds: bool
    detail: str

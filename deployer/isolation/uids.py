"""User ids for agents: numbers that nobody on the machine has, and no passwd entry needs."""

from __future__ import annotations

from collections.abc import Collection
from itertools import chain
from pathlib import Path
from typing import Final

_UID_MAP: Final = Path("/proc/self/uid_map")

_RANGES: Final = (
    # Above 16 bits, below the first of /etc/subuid (login.defs(5), SUB_UID_MIN), and clear of what
    # systemd takes for itself (61184-65519, systemd.io/UIDS-GIDS).
    range(70_000, 100_000),
    # In a container with 65,536 ids there is nothing above; this is what is left free there.
    range(50_000, 60_000),
)


def uid_range(uid_map: str | None = None) -> range | None:
    """Choose the ids that agents are given.

    Args:
        uid_map: As in user_namespaces(7): a line of three numbers a range, the first and the last
            of which say what there is here; None: that of this process.

    Returns:
        The first range that exists here as a whole; None when none does.
    """
    if uid_map is None and not _UID_MAP.exists():  # no Linux
        return None
    if uid_map is None:
        uid_map = _UID_MAP.read_text(encoding="ascii")
    here = []
    for line in uid_map.splitlines():
        first, _, count = (int(word) for word in line.split())
        here.append(range(first, first + count))
    for uids in _RANGES:
        if any(uids[0] in each and uids[-1] in each for each in here):
            return uids
    return None


def choose_uid(uids: range, taken: Collection[int], *, given: int) -> int | None:
    """Choose the next id, so that one comes round again only after all the others.

    Args:
        uids: To choose from.
        taken: Those that an agent has, or whose files lie about.
        given: How many have been given so far, ever.

    Returns:
        None when all are taken.
    """
    start = given % len(uids)
    return next((uid for uid in chain(uids[start:], uids[:start]) if uid not in taken), None)

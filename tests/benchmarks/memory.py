"""What the API and supervisord hold in memory, beside the same things with nothing to do."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil

from tests.benchmarks import bare_servers
from tests.benchmarks.figures import Figure, at_most
from tests.servers import RunningServer

_QUESTIONS = 50
_SETTLE_SECONDS = 10
_MOST_MB = 90
_MOST_KB = 60
_KIB, _MIB = 1024, 1024**2


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of one process.

    Attributes:
        rss: All that is mapped and present, shared or not.
        pss: The same, where each of those who share a page counts its part of it.
        uss: What would be free if the process ended.
    """

    rss: int
    pss: int
    uss: int

    @classmethod
    def of(cls, pid: int) -> Self:
        """Read it."""
        held = psutil.Process(pid).memory_full_info()
        return cls(held.rss, held.pss, held.uss)


def settled(server: RunningServer) -> dict[str, Memory]:
    """Ask a server a good deal, leave it alone for a while, and read what it holds."""
    for _ in range(_QUESTIONS):
        server.request("GET", "/agents")
        server.request("GET", "/v1/agents")
    time.sleep(_SETTLE_SECONDS)
    return {name: Memory.of(pid) for name, pid in pids(server).items()}


def pids(server: RunningServer) -> dict[str, int]:
    """Give both processes of a server that runs."""
    assert server.process is not None
    return {"API": server.api_pid(), "supervisord": server.process.pid}


def compare(
    root: Path, few: int, small: Mapping[str, Memory], many: int, large: Mapping[str, Memory]
) -> Iterator[Figure]:
    """Say what a server holds with few agents, and what each further one adds.

    Args:
        root: An empty directory.
        few: How many agents the small server has.
        small: What it holds.
        many: How many the large server has.
        large: What it holds.
    """
    floors = {}
    with bare_servers.falcon(root, "/", b"{}") as app:
        bare_servers.ask(app.port, _QUESTIONS)
        floors["API"] = Memory.of(app.pid)
    with bare_servers.supervisord(root) as pid:
        floors["supervisord"] = Memory.of(pid)
    yield Figure(
        f"memory of API and supervisord, {few} agents",
        "MiB",
        sum(each.rss for each in small.values()) / _MIB,
        sum(each.rss for each in floors.values()) / _MIB,
        at_most(f"<= {_MOST_MB} MB", _MOST_MB * 1e6 / _MIB),
        "resident sets; floor: bare Falcon on waitress, and stock supervisord without programs",
    )
    added = sum(large[name].uss - small[name].uss for name in small) / (many - few)
    yield Figure(
        "memory per further agent",
        "KiB",
        added / _KIB,
        goal=at_most(f"<= {_MOST_KB} kB", _MOST_KB * 1e3 / _KIB),
        note=f"of what nobody shares: at {many} less at {few} agents",
    )
    for name, floor in floors.items():
        for word in ("rss", "pss", "uss"):
            ours, bare = getattr(small[name], word), getattr(floor, word)
            label = f"memory of {name}, {few} agents, {word.upper()}"
            yield Figure(label, "MiB", ours / _MIB, bare / _MIB)

"""What the API and supervisord hold in memory."""

from __future__ import annotations

from collections.abc import Iterator

import psutil

from tests.benchmarks.figures import Figure
from tests.servers import RunningServer

_MIB = 1024**2


def measure(server: RunningServer, agents: int) -> Iterator[Figure]:
    """Read the figures of both processes: their own pages, their share, all that is mapped.

    Args:
        server: It runs, and was asked a good deal.
        agents: How many run below it.
    """
    assert server.process is not None
    for name, pid in (("API", server.api_pid()), ("supervisord", server.process.pid)):
        held = psutil.Process(pid).memory_full_info()
        for word in ("uss", "pss", "rss"):
            label = f"memory of {name}, {agents} agents, {word.upper()}"
            yield Figure(label, "MiB", getattr(held, word) / _MIB)

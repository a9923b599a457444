"""Many deployments at once, beside the same one after another, and who else is answered then."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.benchmarks.figures import Figure, at_least, at_most, median, percentile
from tests.benchmarks.options import Options
from tests.benchmarks.probers import probing
from tests.package_zips import zip_package
from tests.servers import RunningServer, running_server

_AT_ONCE = 16
_ROUNDS = 3
_MOST_MS = 50


def measure(root: Path, options: Options) -> Iterator[Figure]:
    """Deploy sixteen agents in a row and sixteen at once, in turns; all are new."""
    rates: dict[str, list[float]] = {"row": [], "once": []}
    waits: list[float] = []
    with running_server(root / "state", max_agents=2 * _AT_ONCE) as server:
        _deploy_in_a_row(server, ["first"])  # whatever is made once only
        for number in range(min(_ROUNDS, options.rounds)):
            names = [f"batch-{number}-{each}" for each in range(_AT_ONCE)]
            rates["row"].append(_rate(server, names, _deploy_in_a_row))
            with probing(server, "/agents") as more:
                rates["once"].append(_rate(server, names, _deploy_at_once))
            waits += more
    once, row = median(rates["once"]), median(rates["row"])
    yield Figure(
        f"{_AT_ONCE} deployments at once",
        "1/s",
        once,
        row,
        at_least(">= one after another", row),
        "floor: the same deployments one after another",
    )
    yield Figure(
        f"GET /agents during {_AT_ONCE} deployments, p99",
        "ms",
        1000 * percentile(waits, 99),
        goal=at_most(f"<= {_MOST_MS} ms", _MOST_MS),
        note=f"{len(waits)} questions; p50 {1000 * median(waits):.1f} ms",
    )


def _rate(
    server: RunningServer, names: list[str], deploy: Callable[[RunningServer, list[str]], None]
) -> float:
    began = time.perf_counter()
    deploy(server, names)
    seconds = time.perf_counter() - began
    for name in names:
        server.client.remove(name)
    return len(names) / seconds


def _deploy_in_a_row(server: RunningServer, names: list[str]) -> None:
    for name in names:
        server.client.deploy(zip_package("stdlib_agent", name=name))


def _deploy_at_once(server: RunningServer, names: list[str]) -> None:
    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(lambda name: _deploy_in_a_row(server, [name]), names))

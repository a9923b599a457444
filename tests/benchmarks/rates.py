"""Answers per second with many agents, against a bare route that returns the same bytes."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import requests

from tests.benchmarks import bare_app, loads, memory
from tests.benchmarks.figures import Figure, median
from tests.free_ports import free_ports
from tests.package_zips import zip_package
from tests.servers import RunningServer, running_server, wait_until

_DEPLOYS_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Route:
    """A question that clients ask often."""

    method: str
    path: str
    query: str = ""


def measure(root: Path, *, agents: int, rounds: int, seconds: float) -> Iterator[Figure]:
    """Measure both routes in turns, and then what the server's processes hold.

    Args:
        root: An empty directory.
        agents: How many run.
        rounds: Of which the median is given.
        seconds: Of each load.
    """
    with running_server(root / "state", max_agents=agents + 10) as server:
        with ThreadPoolExecutor(_DEPLOYS_AT_ONCE) as pool:
            list(pool.map(lambda number: _deploy(server, number), range(agents)))
        checksum = server.client.agent("agent-0").checksum
        routes = (
            Route("GET", "/agents"),
            Route("POST", "/check", f"?checksum={checksum}"),
        )
        with _bare_server(root, {route.path: _answer(server, route) for route in routes}) as port:
            for route in routes:
                yield from _compare(server, port, route, rounds=rounds, seconds=seconds)
        yield from memory.measure(server, agents)


def _deploy(server: RunningServer, number: int) -> None:
    server.client.deploy(zip_package("stdlib_agent", name=f"agent-{number}"))


def _answer(server: RunningServer, route: Route) -> bytes:
    response = server.request(route.method, f"{route.path}{route.query}")
    assert response.status_code == 200, response.text
    return response.content


def _compare(
    server: RunningServer, port: int, route: Route, *, rounds: int, seconds: float
) -> Iterator[Figure]:
    head = (
        f"{route.method} {route.path}{route.query} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
        f"Authorization: Bearer {server.token}\r\nContent-Length: 0\r\n\r\n"
    ).encode()
    bare, ours = [], []
    for _ in range(rounds):
        bare.append(loads.ask(port, head, seconds=seconds))
        ours.append(loads.ask(server.port, head, seconds=seconds))
    rates = median([load.rate for load in ours]), median([load.rate for load in bare])
    name = f"{route.method} {route.path}"
    goal = "at least half the rate"
    yield Figure(name, "requests/s", *rates, goal=goal, is_met=rates[0] >= rates[1] / 2)
    for word in ("p50", "p99"):
        yield Figure(
            f"{name}, {word}",
            "ms",
            median([getattr(load, word) * 1000 for load in ours]),
            median([getattr(load, word) * 1000 for load in bare]),
        )


@contextlib.contextmanager
def _bare_server(root: Path, answers: dict[str, bytes]) -> Iterator[int]:
    port = free_ports(1)
    words = []
    for path, data in answers.items():
        file = root / f"{path[1:]}.json"
        file.write_bytes(data)
        words.append(f"{path}={file}")
    command = [sys.executable, bare_app.__file__, str(port), *words]
    with subprocess.Popen(command) as process:
        try:
            wait_until(lambda: _answers(port))
            yield port
        finally:
            process.terminate()


def _answers(port: int) -> bool:
    with contextlib.suppress(requests.ConnectionError):
        return requests.get(f"http://127.0.0.1:{port}/agents", timeout=5).ok
    return False

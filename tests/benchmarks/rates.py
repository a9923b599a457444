"""Answers per second with many agents, against a bare route that returns the same bytes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks import bare_servers, fleets, loads
from tests.benchmarks.figures import Figure, at_least, median
from tests.benchmarks.options import Options
from tests.servers import RunningServer

_LEAST_SHARE = 0.7
_ROUNDS = 3
_UNKNOWN = "0" * 32


@dataclass(frozen=True, slots=True)
class Route:
    """A question that clients ask often.

    Attributes:
        name: In a table.
        method: Of HTTP.
        path: Where the bare server has the same bytes.
        query: Behind it, in both.
    """

    name: str
    method: str
    path: str
    query: str = ""


def measure(root: Path, options: Options) -> Iterator[Figure]:
    """Measure each route in turns with the bare one, in a short list and in a long one.

    Where the long one is asked, as many agents run as in the short one; the others are rows of
    stopped agents, which take the same place in every answer.
    """
    with fleets.running_fleet(root / "s", options.some, room=options.listed) as server:
        yield from _routes(root, server, options.some, options)
        if options.listed <= options.some:
            return
        server.stop()
        fleets.populate(server, options.listed, running=options.some)
        fleets.boot(server, options.some)
        yield from _routes(root, server, options.listed, options)


def _routes(root: Path, server: RunningServer, agents: int, options: Options) -> Iterator[Figure]:
    checksum = server.client.agent(fleets.ORIGINAL).checksum
    routes = (
        Route("GET /agents", "GET", "/agents"),
        Route("POST /check, a hit", "POST", "/check", f"?checksum={checksum}"),
        Route("POST /check, a miss", "POST", "/check", f"?checksum={_UNKNOWN}"),
    )
    for route in routes:
        answer = server.request(route.method, f"{route.path}{route.query}")
        assert answer.status_code == 200, answer.text
        with bare_servers.falcon(root, route.path, answer.content) as bare:
            yield from _compare(server, bare.port, route, agents, options)


def _compare(
    server: RunningServer, port: int, route: Route, agents: int, options: Options
) -> Iterator[Figure]:
    head = (
        f"{route.method} {route.path}{route.query} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
        f"Authorization: Bearer {server.token}\r\nContent-Length: 0\r\n\r\n"
    ).encode()
    bare, ours = [], []
    for _ in range(min(_ROUNDS, options.rounds)):
        bare.append(loads.ask(port, head, seconds=options.seconds))
        ours.append(loads.ask(server.port, head, seconds=options.seconds))
    rates = median([load.rate for load in ours]), median([load.rate for load in bare])
    name = f"{route.name}, {agents} agents"
    goal = at_least(f">= {_LEAST_SHARE} of the rate", _LEAST_SHARE * rates[1])
    yield Figure(name, "1/s", *rates, goal=goal)
    for word in ("p50", "p99"):
        yield Figure(
            f"{name}, {word}",
            "ms",
            median([getattr(load, word) * 1000 for load in ours]),
            median([getattr(load, word) * 1000 for load in bare]),
        )

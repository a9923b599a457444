"""A new release of an agent that serves, where nothing but its code has changed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks import bare_agents
from tests.benchmarks.deploys import TYPICAL
from tests.benchmarks.figures import Figure, at_most, median
from tests.benchmarks.options import Options
from tests.package_zips import zip_package
from tests.servers import RunningServer, running_server

_NAME = "changing"
_STARTS = {"replace": 1, "parallel": 1, "rehearse": 2}
_MOST = 1.5
_ADDED_SECONDS = 0.06


def measure(root: Path, options: Options, requirements: str = TYPICAL) -> Iterator[Figure]:
    """Deploy by each strategy in turn with starts by hand, under the release's own Python."""
    code = bare_agents.copy_code(root / "code")
    with running_server(root / "state", cache_dir=root / "cache") as server:
        server.client.deploy(_package("first", requirements))
        bare: list[float] = []
        ours: dict[str, list[float]] = {strategy: [] for strategy in _STARTS}
        for number in range(options.rounds):
            for strategy, seconds in ours.items():
                with bare_agents.started(_python(server), code) as agent:
                    bare.append(agent.seconds)
                seconds.append(
                    _deploy(server, strategy, _package(f"{strategy} {number}", requirements))
                )
    for strategy, starts in _STARTS.items():
        floor = starts * median(bare)
        yield Figure(
            f"redeploy, code only, {strategy}",
            "s",
            median(ours[strategy]),
            floor,
            at_most(f"<= {_MOST} x floor + 60 ms", _MOST * floor + _ADDED_SECONDS),
            f"floor: {starts} x (Popen + answer)",
        )


def measure_bare(root: Path, options: Options) -> Iterator[Figure]:
    """Measure the same with an agent that needs no package index."""
    yield from measure(root, options, "")


def _python(server: RunningServer) -> Path:
    """Find the Python of the release that serves."""
    return server.state.venv(_NAME, server.client.agent(_NAME).release or 0) / "bin" / "python"


def _deploy(server: RunningServer, strategy: str, package: bytes) -> float:
    began = time.perf_counter()
    server.client.deploy(package, strategy=strategy)
    seconds = time.perf_counter() - began
    assert server.client.agent(_NAME).status == "running"
    return seconds


def _package(mark: str, requirements: str) -> bytes:
    extra = {"requirements.txt": requirements, "mark.py": f"MARK = {mark!r}\n"}
    return zip_package("stdlib_agent", name=_NAME, extra_files=extra)

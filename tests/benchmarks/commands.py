"""The command line, beside the import that every client in Python pays for."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.benchmarks import fleets
from tests.benchmarks.figures import Figure, at_most, median
from tests.benchmarks.options import Options

_PROGRAM = Path(sys.executable).with_name("atoll-deployer")
_MOST = 2
_MOST_SECONDS = 0.3
_LIST = ("list",)
_COMMANDS = (
    _LIST,
    ("status", fleets.ORIGINAL),
    ("releases", fleets.ORIGINAL),
    ("logs", fleets.ORIGINAL),
    ("why", fleets.ORIGINAL),
)


def measure(root: Path, options: Options) -> Iterator[Figure]:
    """Type a few commands, in turns with ``import requests``."""
    ours: dict[tuple[str, ...], list[float]] = {command: [] for command in _COMMANDS}
    bare = []
    with fleets.running_fleet(root / "state", options.few) as server:
        variables = {
            **os.environ,
            "ATOLL_DEPLOYER_SERVER": server.url,
            "ATOLL_DEPLOYER_TOKEN": server.token,
        }
        for _ in range(2 * options.rounds):
            bare.append(_seconds([sys.executable, "-c", "import requests"], variables))
            for command, seconds in ours.items():
                seconds.append(_seconds([str(_PROGRAM), *command], variables))
    yield Figure(
        f"atoll-deployer list, {options.few} agents",
        "s",
        median(ours[_LIST]),
        median(bare),
        at_most(f"<= {_MOST} x floor", _MOST * median(bare)),
        'floor: python -c "import requests"',
    )
    slowest = max(_COMMANDS, key=lambda command: median(ours[command]))
    yield Figure(
        f"slowest of {len(_COMMANDS)} commands",
        "s",
        median(ours[slowest]),
        median(bare),
        at_most(f"<= {_MOST_SECONDS * 1000:.0f} ms", _MOST_SECONDS),
        f"{slowest[0]}; floor: as above",
    )


def _seconds(command: Sequence[str], variables: dict[str, str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, env=variables, check=True, stdout=subprocess.DEVNULL, timeout=60)
    return time.perf_counter() - began

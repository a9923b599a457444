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


def measure(root: Path, options: Options) -> Iterator[Figure]:
    """List a few agents, in turns with ``import requests``."""
    ours, bare = [], []
    with fleets.running_fleet(root / "state", options.few) as server:
        variables = {**os.environ, "ATOLL_DEPLOYER_TOKEN": server.token}
        command = [str(_PROGRAM), "list", "--server", server.url]
        for _ in range(2 * options.rounds):
            bare.append(_seconds([sys.executable, "-c", "import requests"], variables))
            ours.append(_seconds(command, variables))
    yield Figure(
        f"atoll-deployer list, {options.few} agents",
        "s",
        median(ours),
        median(bare),
        at_most(f"<= {_MOST} x floor", _MOST * median(bare)),
        'floor: python -c "import requests"',
    )


def _seconds(command: Sequence[str], variables: dict[str, str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, env=variables, check=True, stdout=subprocess.DEVNULL, timeout=60)
    return time.perf_counter() - began

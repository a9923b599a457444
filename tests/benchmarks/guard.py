"""Ratios that must not get much worse: `make bench-guard` holds a few to what was recorded.

A ratio of ours to the floor of one run depends on the machine far less than seconds do. Still a
busy machine can stretch one of both. So a row is measured up to three times, and fails only if its
ratio was more than two and a half times the recorded one every time.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from tests.benchmarks import applies, commands, deploys, launches, rates, redeploys, starts
from tests.benchmarks.figures import Figure, short
from tests.benchmarks.options import Options

RECORDED: Final = Path(__file__).with_name("recorded.json")
MOST: Final = 2.5
_TRIES: Final = 3
_OPTIONS: Final = Options(rounds=3, seconds=0.5, few=4, some=10, most=4, listed=10)
_ROWS: Final[dict[str, Callable[[Path, Options], Iterator[Figure]]]] = {
    "deploys": deploys.measure_bare,
    "redeploys": redeploys.measure_bare,
    "starts": starts.measure,
    "kills": starts.measure_kills,
    "launches": launches.measure,
    "rates": rates.measure,
    "applies": lambda root, options: applies.measure(root, options, listed=200),
    "commands": commands.measure,
}


def main() -> int:
    """Measure, and hold what came of it to what is recorded; 1 if something got much worse."""
    parser = argparse.ArgumentParser(prog="make bench-guard GUARD_ARGS=...", description=__doc__)
    parser.add_argument("--record", action="store_true", help="record what is measured now")
    began = time.monotonic()
    if parser.parse_args().record:
        costs = {name: cost for row in _ROWS for name, cost in _measure(row).items()}
        recorded = {name: round(cost, 2) for name, cost in costs.items()}
        RECORDED.write_text(json.dumps(recorded, indent=2) + "\n")
        return 0
    recorded = json.loads(RECORDED.read_text())
    worse = [name for row in _ROWS for name in _held(row, recorded)]
    sys.stdout.write(f"{time.monotonic() - began:.0f} s\n")
    for name in worse:
        sys.stdout.write(f"{name}: more than {MOST:g} times the recorded {recorded[name]}\n")
    return 1 if worse else 0


def _held(row: str, recorded: dict[str, float]) -> list[str]:
    """Measure a row until each of its figures was good once; give those that never were."""
    best: dict[str, float] = {}
    worse: list[str] = []
    for _ in range(_TRIES):
        for name, cost in _measure(row).items():
            best[name] = min(cost, best.get(name, cost))
        worse = [name for name, cost in best.items() if cost > MOST * recorded.get(name, cost)]
        if not worse:
            break
    for name, cost in best.items():
        known = short(recorded.get(name))
        verdict = "WORSE" if name in worse else "holds"
        sys.stdout.write(f"{verdict}  {name}: {short(cost)} x floor, recorded {known}\n")
        sys.stdout.flush()
    return worse


def _measure(row: str) -> dict[str, float]:
    """Give the costs of those figures of a row that have a goal."""
    with tempfile.TemporaryDirectory(prefix="g-") as name:
        figures = list(_ROWS[row](Path(name), _OPTIONS))
    return {each.name: each.cost for each in figures if each.goal is not None and each.cost}


if __name__ == "__main__":
    sys.exit(main())

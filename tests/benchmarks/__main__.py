"""Run the benchmarks and show what came of them."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks import deploys, idle, limits, rates, starts
from tests.benchmarks.figures import Figure, document, table


def main() -> int:
    """Measure, and print a table or JSON; a missed goal is no failure: machines differ."""
    options = _parse()
    figures = []
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        for figure in _measure(Path(name), options):
            figures.append(figure)
            sys.stderr.write(f"  {figure.name}: {figure.ours:.3g} {figure.unit}\n")
    text = json.dumps(document(figures), indent=2) if options.json else table(figures)
    sys.stdout.write(f"{text}\n")
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench BENCH_ARGS=...", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parts = ("deploys", "rates", "idle", "limits", "starts")
    parser.add_argument("--only", choices=parts, help="leave the others out")
    parser.add_argument("--rounds", type=int, default=5, help="of each pair [5]")
    parser.add_argument("--agents", type=int, default=50, help="that run under load [50]")
    parser.add_argument("--watched", type=int, default=200, help="agents that idle [200]")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each load [3]")
    return parser.parse_args()


def _measure(root: Path, options: argparse.Namespace) -> Iterator[Figure]:
    if options.only in {None, "deploys"}:
        yield from deploys.measure(_made(root / "d"), options.rounds)
    if options.only in {None, "rates"}:
        yield from rates.measure(
            _made(root / "r"),
            agents=options.agents,
            rounds=options.rounds,
            seconds=options.seconds,
        )
    if options.only in {None, "idle"}:
        root = _made(root / "i")
        yield from idle.measure(root, agents=options.watched, rounds=options.rounds)
    if options.only in {None, "limits"}:
        root = _made(root / "l")
        yield from limits.measure(root, agents=options.agents, rounds=options.rounds)
    if options.only in {None, "starts"}:
        yield from starts.measure(_made(root / "s"), options.rounds)


def _made(path: Path) -> Path:
    path.mkdir()
    return path


if __name__ == "__main__":
    sys.exit(main())

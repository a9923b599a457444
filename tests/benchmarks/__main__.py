"""Run the benchmarks and show what came of them."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from tests.benchmarks import (
    applies,
    batches,
    commands,
    crowds,
    deploys,
    launches,
    peers,
    rates,
    redeploys,
    starts,
    uploads,
    watches,
)
from tests.benchmarks.figures import Figure, document, table
from tests.benchmarks.options import Options
from tests.benchmarks.plots import plot

ROWS: Final[dict[str, Callable[[Path, Options], Iterator[Figure]]]] = {
    "deploys": deploys.measure,
    "redeploys": redeploys.measure,
    "uploads": uploads.measure,
    "starts": starts.measure,
    "kills": starts.measure_kills,
    "rates": rates.measure,
    "applies": applies.measure,
    "crowds": crowds.measure,
    "batches": batches.measure,
    "commands": commands.measure,
    "launches": launches.measure,
    "watches": watches.measure,
}

MEASURES: Final = {**ROWS, "peers": peers.measure}

_HELP: Final = {
    "rounds": "of each pair",
    "seconds": "of each load",
    "few": "agents of a small server",
    "some": "agents where lists are asked for",
    "many": "agents that boot, idle and stop",
    "most": "agents of which some are killed",
    "listed": "rows in the longest list",
}


def main() -> int:
    """Measure, and print a table or JSON; 1 if a row failed.

    A missed goal is no failure: machines differ.
    """
    words = _parse()
    options = Options(**{name: getattr(words, name) for name in _HELP})
    figures, failed = [], []
    began = time.monotonic()
    rows = words.only or [*ROWS]
    if words.peers and "peers" not in rows:
        rows.append("peers")
    for row in rows:
        try:
            with tempfile.TemporaryDirectory(prefix="b-") as name:
                for figure in MEASURES[row](Path(name), options):
                    figures.append(figure)
                    sys.stderr.write(f"  {figure.name}: {figure.ours:.3g} {figure.unit}\n")
        except Exception:  # noqa: BLE001 - the other rows can be measured all the same
            traceback.print_exc()
            failed.append(row)
        sys.stderr.write(f"{row}: {time.monotonic() - began:.0f} s since the begin\n")
    if words.plot is not None:
        plot(figures, words.plot)
    text = json.dumps(document(figures), indent=2) if words.json else table(figures)
    sys.stdout.write(f"{text}\n")
    if failed:
        sys.stderr.write(f"not measured: {', '.join(failed)}\n")
    return 1 if failed else 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench BENCH_ARGS=...", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw a PNG as well")
    parser.add_argument(
        "--peers", action="store_true", help="as well as pm2, circus and supervisord, if to be had"
    )
    parser.add_argument(
        "--only", choices=tuple(MEASURES), action="append", help="these rows; may be said again"
    )
    for name, text in _HELP.items():
        value = getattr(Options(), name)
        parser.add_argument(f"--{name}", type=type(value), default=value, help=f"{text} [{value}]")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

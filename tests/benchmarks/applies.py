"""One more program for a supervisord that knows few, and for one that knows many."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from tests.benchmarks.figures import Figure, at_most, median
from tests.benchmarks.options import Options
from tests.supervisord_process import AT_ONCE, SupervisordProcess, put, script_policy

_MOST = 5
_START_SECONDS = 120


def measure(root: Path, options: Options, listed: int | None = None) -> Iterator[Figure]:
    """Write and apply one more program, in turns to both; the programs do not run."""
    listed = listed or options.listed
    counts = options.few, listed
    seconds: dict[int, list[float]] = {count: [] for count in counts}
    with ExitStack() as stack:
        running = {count: stack.enter_context(_with_programs(root, count)) for count in counts}
        for number in range(2 * options.rounds):
            for count, supervisord in running.items():
                began = time.perf_counter()
                put(supervisord, program=f"more-{number}--1")
                seconds[count].append(time.perf_counter() - began)
    few, many = (1000 * median(seconds[count]) for count in counts)
    yield Figure(
        f"apply one more program, {listed} programs",
        "ms",
        many,
        few,
        at_most(f"<= {_MOST} x at {options.few}", _MOST * few),
        f"floor: the same with {options.few} programs",
    )


def _with_programs(root: Path, count: int) -> SupervisordProcess:
    """Make a supervisord that finds so many programs when it starts."""
    directory = root / f"v{count}"
    directory.mkdir()
    supervisord = SupervisordProcess(directory, start_seconds=_START_SECONDS)
    for number in range(count):
        policy = script_policy(supervisord.state, f"agent-{number}--1")
        supervisord.programs.write(policy, AT_ONCE)
    return supervisord

"""What a look at all agents costs, and what control groups add to a start."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from deployer.limits.allowances import Allowance
from deployer.limits.limiters import Limiter
from deployer.limits.usages import Usages
from deployer.settings import LimitSettings
from deployer.state_dir import StateDir
from tests.benchmarks.figures import Figure, at_most, median
from tests.benchmarks.options import Options

_PARENT = "import os, time\nos.fork()\ntime.sleep(600)"
_LIMITS = Allowance(memory_bytes=256_000_000, cpus=1.0, pids=100)
_GOAL_PERCENT = 0.5
_LOOKS = 10


def measure(root: Path, options: Options) -> Iterator[Figure]:
    """Look at so many agents of two processes each, as the watchdog does once a second.

    Args:
        root: An empty directory.
        options: How many agents, and rounds of ten looks each.
    """
    agents, rounds = options.some, options.rounds
    state = StateDir(root.resolve())
    state.run.mkdir()
    limiter, usages = Limiter(state, LimitSettings()), Usages(state.root)
    with contextlib.ExitStack() as stack:
        stack.callback(limiter.close)
        mains = {}
        for number in range(agents):
            process = subprocess.Popen([sys.executable, "-I", "-S", "-c", _PARENT], process_group=0)
            stack.callback(process.wait, 10)
            stack.callback(_end, process.pid)
            mains[f"agent-{number}--1"] = process.pid
        groups = [_join(limiter, program, pid) for program, pid in mains.items()]
        usages.measure(mains, limiter.members(mains))
        cpu = median([_look(limiter, usages, mains) for _ in range(rounds)])
    percent = 100 * cpu
    yield Figure(
        f"watchdog, {agents} agents with limits",
        "% of a core",
        percent,
        goal=at_most(f"<= {_GOAL_PERCENT} %", _GOAL_PERCENT),
    )
    yield Figure("groups of one run, made and joined", "ms", median(groups) * 1000)


def _look(limiter: Limiter, usages: Usages, mains: dict[str, int]) -> float:
    """Give the CPU time of a look in seconds; groups are asked at every fifth, as by servers."""
    began = time.process_time()
    for look in range(_LOOKS):
        usages.measure(mains, limiter.members(mains) if look % 5 == 0 else {})
        if look % 5 == 0:
            for program, pid in mains.items():
                limiter.oom_kills(program, pid)
                limiter.refused_forks(program, pid)
            limiter.sweep(mains)
    return (time.process_time() - began) / _LOOKS


def _join(limiter: Limiter, program: str, pid: int) -> float:
    """Put a process into its groups, as the launcher does; give the time."""
    began = time.perf_counter()
    for plan in limiter.limit_run(program, _LIMITS, 8100).groups:
        group = plan.directory.with_name(f"{plan.directory.name}.{pid}")
        group.mkdir()
        for file, value in (*plan.settings, ("cgroup.procs", str(pid))):
            (group / file).write_text(value)
    return time.perf_counter() - began


def _end(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, 9)

"""From exec to the end of a Python that does nothing: launched as agents are, and directly."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from deployer import launcher
from deployer.isolation import Quarters, find_isolation
from deployer.launch_policies import LaunchPolicy, policy_bytes
from deployer.limits.allowances import Allowance
from deployer.limits.limiters import Limiter
from deployer.settings import LimitSettings
from deployer.settings.isolation import IsolationSettings
from deployer.state_dir import StateDir
from tests.benchmarks.figures import Figure, at_most
from tests.benchmarks.options import Options

_PYTHON = Path("/usr/bin/python3")
_NOTHING = ("-I", "-S", "-c", "pass")
_PROGRAM = "nobody--1"
_PORT = 8123
_LIMITS = Allowance(memory_bytes=256_000_000, cpus=1.0, pids=100)
_STARTS_A_ROUND = 10
_MOST_ADDED_SECONDS = 0.025
_LONGEST_SECONDS = 20


def measure(root: Path, options: Options) -> Iterator[Figure]:
    """Measure both in turns: the launcher with its whole sandbox, limits and control groups.

    Args:
        root: An empty directory.
        options: Rounds of ten starts each. The least of all is given: others only add.
    """
    state = StateDir(root.resolve())
    directory = state.agent("nobody")
    writable = tuple(directory / name for name in ("data", "tmp", "run"))
    for each in (*writable, directory / "code", state.run, state.tmp):
        each.mkdir(parents=True)
    isolation = find_isolation(state, IsolationSettings())
    quarters = Quarters(directory, (directory / "code",), writable, _PYTHON.resolve())
    with closing(Limiter(state, LimitSettings())) as limiter:
        resources = limiter.limit_run(_PROGRAM, _LIMITS, _PORT)
        policy = LaunchPolicy(
            _PROGRAM,
            _PYTHON,
            _NOTHING,
            Path("/"),
            _PORT,
            sandbox=isolation.sandbox(quarters, isolation.reader_uid),
            resources=resources,
        )
        path = state.tmp / "policy"
        path.write_bytes(policy_bytes(policy))
        launched = [sys.executable, "-I", "-S", launcher.__file__, str(_PORT), str(path)]
        ours, bare = [], []
        for _ in range(options.rounds * _STARTS_A_ROUND):
            bare.append(_seconds([str(_PYTHON), *_NOTHING]))
            ours.append(_seconds(launched))
            limiter.end_groups(_PROGRAM)
    yield Figure(
        f"start of a process, isolation {isolation.level}, {len(resources.groups)} control groups",
        "s",
        min(ours),
        min(bare),
        at_most("<= floor + 25 ms", min(bare) + _MOST_ADDED_SECONDS),
        "the least of all rounds",
    )


def _seconds(command: Sequence[str]) -> float:
    began = time.perf_counter()
    with subprocess.Popen(command, env={}, stdin=subprocess.DEVNULL) as process:
        descriptor = os.pidfd_open(process.pid)
        try:
            # A wait with a timeout looks at growing intervals: 16 ms, then 32 ms.
            ended, _, _ = select.select([descriptor], [], [], _LONGEST_SECONDS)
            seconds = time.perf_counter() - began
        finally:
            os.close(descriptor)
            if process.poll() is None:
                process.kill()
    if not ended or process.returncode != 0:
        raise RuntimeError(f"{command} did not end well: {process.returncode}")
    return seconds

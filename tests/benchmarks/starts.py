"""From exec to the end of a Python that does nothing: launched in a whole sandbox, and directly."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from deployer import launcher
from deployer.isolation import Quarters, find_isolation
from deployer.launch_policies import LaunchPolicy, policy_bytes
from deployer.settings.isolation import IsolationSettings
from deployer.state_dir import StateDir
from tests.benchmarks.figures import Figure

_PYTHON = Path("/usr/bin/python3")
_NOTHING = ("-I", "-S", "-c", "pass")
_STARTS_A_ROUND = 10
_MOST_ADDED_SECONDS = 0.025


def measure(root: Path, rounds: int) -> Iterator[Figure]:
    """Measure both in turns.

    Args:
        root: An empty directory.
        rounds: Of ten starts each. The least of all is given: whoever else is busy only adds.
    """
    state = StateDir(root.resolve())
    directory = state.agent("nobody")
    writable = tuple(directory / name for name in ("data", "tmp", "run"))
    for each in (*writable, directory / "code", state.run, state.tmp):
        each.mkdir(parents=True)
    isolation = find_isolation(state, IsolationSettings())
    quarters = Quarters(directory, (directory / "code",), writable, _PYTHON.resolve())
    policy = LaunchPolicy(
        "nobody--1",
        _PYTHON,
        _NOTHING,
        Path("/"),
        8123,
        sandbox=isolation.sandbox(quarters, isolation.reader_uid),
    )
    path = state.tmp / "policy"
    path.write_bytes(policy_bytes(policy))
    launched = [sys.executable, "-I", "-S", launcher.__file__, "8123", str(path)]
    ours, bare = [], []
    for _ in range(rounds * _STARTS_A_ROUND):
        bare.append(_seconds([str(_PYTHON), *_NOTHING]))
        ours.append(_seconds(launched))
    yield Figure(
        f"start of a process, isolation {isolation.level}",
        "s",
        min(ours),
        min(bare),
        goal="at most 25 ms more than directly",
        is_met=min(ours) - min(bare) <= _MOST_ADDED_SECONDS,
    )


def _seconds(command: Sequence[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, timeout=20, env={}, stdin=subprocess.DEVNULL)
    return time.perf_counter() - began

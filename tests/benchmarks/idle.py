"""What watching many agents costs while nobody asks anything."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

from tests.benchmarks.figures import Figure
from tests.package_zips import zip_package
from tests.servers import RunningServer, running_server, wait_until

_DEPLOYS_AT_ONCE = 4
_CHECK_SECONDS = 10
_SETTLE_SECONDS = 600
_GOAL = 0.05


def measure(root: Path, *, agents: int, rounds: int) -> Iterator[Figure]:
    """Run agents that are checked every ten seconds, and read what the server's processes use.

    CPU time is counted, not time that passes: other load on the machine hardly changes it.

    Args:
        root: An empty directory.
        agents: How many run.
        rounds: Of ten seconds each; the mean of all is given.
    """
    with running_server(root / "state", max_agents=agents + 10) as server:
        with ThreadPoolExecutor(_DEPLOYS_AT_ONCE) as pool:
            list(pool.map(lambda number: _deploy(server, number), range(agents)))
        wait_until(lambda: _are_all_healthy(server, agents), _SETTLE_SECONDS)
        assert server.process is not None
        pids = {"API": server.api_pid(), "supervisord": server.process.pid}
        processes = {name: psutil.Process(pid) for name, pid in pids.items()}
        began = time.perf_counter()
        before = {name: _cpu_seconds(process) for name, process in processes.items()}
        time.sleep(_CHECK_SECONDS * rounds)
        elapsed = time.perf_counter() - began
        shares = {
            name: (_cpu_seconds(process) - before[name]) / elapsed
            for name, process in processes.items()
        }
    share = sum(shares.values())
    name = f"{agents} agents checked every {_CHECK_SECONDS} s"
    goal = f"at most {_GOAL:.0%} of a core"
    yield Figure(f"{name}, both", "cores", share, goal=goal, is_met=share <= _GOAL)
    for process, used in shares.items():
        yield Figure(f"{name}, {process}", "cores", used)


def _deploy(server: RunningServer, number: int) -> None:
    package = zip_package(
        "stdlib_agent",
        name=f"agent-{number}",
        replace={"start_seconds = 20": f"start_seconds = 60\ninterval_seconds = {_CHECK_SECONDS}"},
    )
    server.client.deploy(package)


def _are_all_healthy(server: RunningServer, agents: int) -> bool:
    return sum(agent.status == "running" for agent in server.client.agents()) == agents


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system

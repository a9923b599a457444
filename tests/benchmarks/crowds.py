"""A server with hundreds of agents: its start, its stop, its memory, and what it costs at rest."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

from tests.benchmarks import bare_agents, fleets, memory
from tests.benchmarks.figures import Figure, at_most, median, percentile
from tests.benchmarks.options import Options
from tests.benchmarks.probers import PAUSE_SECONDS, probing
from tests.free_ports import free_ports
from tests.servers import RunningServer, running_server, wait_until

_AT_ONCE = 2 * (os.cpu_count() or 1)
_CHECK_SECONDS = 10
_IDLE_ROUNDS = 3
_READY_SECONDS = 120
_LIVE_SECONDS = 0.1
_MOST_CORES = 0.05


def measure(root: Path, options: Options) -> Iterator[Figure]:
    """Boot a small server and a large one, let the large one idle, and stop it.

    Floors are the same number of processes of the same agent, started as many at a time as the
    server starts, and then ended by a signal to each of their groups.
    """
    few, many = options.few, options.many
    with running_server(root / "state", max_agents=many + 10) as server:
        fleets.deploy_original(server, interval_seconds=_CHECK_SECONDS)
        python = server.state.venv(fleets.ORIGINAL, 1) / "bin" / "python"
        server.stop()
        fleets.populate(server, few)
        fleets.boot(server, few)
        small = memory.settled(server)
        server.stop()
        fleets.populate(server, many)
        started, stopped = _bare(python, bare_agents.copy_code(root / "code"), many)
        booted, waits = _boot(server, many)
        yield Figure(
            f"boot with {many} agents until all are healthy",
            "s",
            booted,
            started,
            at_most("<= 1.5 x floor", 1.5 * started),
            f"one round; floor: Popen + answer, {_AT_ONCE} at a time",
        )
        yield Figure(
            f"/livez while {many} agents start, p99",
            "ms",
            percentile(waits, 99) * 1000,
            goal=at_most("<= 100 ms", 1000 * _LIVE_SECONDS),
            note=f"{len(waits)} questions, one each {PAUSE_SECONDS * 1000:.0f} ms",
        )
        large = memory.settled(server)
        yield from memory.compare(root, few, small, many, large)
        yield _idle(server, many)
        began = time.perf_counter()
        server.stop()
        seconds = time.perf_counter() - began
        yield Figure(
            f"clean stop of {many} agents",
            "s",
            seconds,
            stopped,
            at_most("<= floor + 0.5 s", stopped + 0.5),
            "one round; floor: SIGTERM to each group, and wait",
        )


def _bare(python: Path, code: Path, agents: int) -> tuple[float, float]:
    """Give the seconds that starting and ending so many agents take without a server."""
    first = free_ports(agents)
    began = time.perf_counter()
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        ports = range(first, first + agents)
        running = list(pool.map(lambda port: bare_agents.start(python, code, port), ports))
    started = time.perf_counter() - began
    began = time.perf_counter()
    for agent in running:
        os.killpg(agent.process.pid, signal.SIGTERM)
    for agent in running:
        agent.process.wait(60)
    return started, time.perf_counter() - began


def _boot(server: RunningServer, agents: int) -> tuple[float, list[float]]:
    """Start a server; give the seconds until all its agents run, and what /livez took."""
    began = time.perf_counter()
    server.launch()
    with probing(server, "/livez") as waits:
        wait_until(server.is_ready, _READY_SECONDS, "ready")
        fleets.wait_until_running(server, agents)
        return time.perf_counter() - began, waits


def _idle(server: RunningServer, agents: int) -> Figure:
    """Read what the server's processes use while nobody asks anything.

    CPU time is counted, not time that passes: other load on the machine hardly changes it.
    """
    processes = {name: psutil.Process(pid) for name, pid in memory.pids(server).items()}
    shares: dict[str, list[float]] = {name: [] for name in processes}
    for _ in range(_IDLE_ROUNDS):
        began = time.perf_counter()
        before = {name: _cpu_seconds(process) for name, process in processes.items()}
        time.sleep(_CHECK_SECONDS)
        elapsed = time.perf_counter() - began
        for name, process in processes.items():
            shares[name].append((_cpu_seconds(process) - before[name]) / elapsed)
    share = {name: median(values) for name, values in shares.items()}
    return Figure(
        f"idle, {agents} agents checked every {_CHECK_SECONDS} s",
        "% of a core",
        100 * sum(share.values()),
        goal=at_most("<= 5 % of a core", 100 * _MOST_CORES),
        note=", ".join(f"{name} {100 * value:.1f} %" for name, value in share.items()),
    )


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system

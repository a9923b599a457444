"""From a ZIP to a healthy agent: the server, and the bare commands that nobody can do without."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import uv

from deployer import health
from deployer.model import HealthCheck
from tests.benchmarks.figures import Figure, median
from tests.free_ports import free_ports
from tests.package_zips import PACKAGES, zip_package
from tests.servers import RunningServer, running_server

TYPICAL = "requests\npydantic\naiohttp\njinja2\npyyaml\n"
_QUESTION = HealthCheck(path="/health", timeout_seconds=5)


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of deployment.

    Attributes:
        name: Names the figure.
        requirements: The agent's dependencies.
        is_known: A release with the same dependencies was installed before.
        goal: In words.
        is_met: Judges the median seconds of ours and bare.
    """

    name: str
    requirements: str
    is_known: bool
    goal: str = ""
    is_met: Callable[[float, float], bool] | None = None


CASES = (
    Case(
        "deploy, no dependencies",
        "",
        is_known=False,
        goal="at most 1.5 times the bare commands, and below 1 s",
        is_met=lambda ours, bare: ours <= 1.5 * bare and ours < 1.0,
    ),
    Case(
        "deploy, five dependencies, known lock",
        TYPICAL,
        is_known=True,
        goal="at most 1.5 times the bare commands",
        is_met=lambda ours, bare: ours <= 1.5 * bare,
    ),
    Case("deploy, five dependencies, resolved anew", TYPICAL, is_known=False),
)


def measure(root: Path, rounds: int) -> Iterator[Figure]:
    """Measure every case, ours and bare in turns.

    Args:
        root: An empty directory.
        rounds: Of which the median is given.
    """
    cache = root / "cache"
    with running_server(root / "state", cache_dir=cache) as server:
        for case in CASES:
            lock = _lock(server, case)  # this warms the cache, too
            bare, ours = [], []
            for number in range(rounds):
                bare.append(_bare(Path(tempfile.mkdtemp(dir=root)), lock, cache))
                ours.append(_ours(server, case, number))
            server.client.remove("known")
            seconds = median(ours), median(bare)
            is_met = case.is_met(*seconds) if case.is_met is not None else None
            yield Figure(case.name, "s", *seconds, goal=case.goal, is_met=is_met)


def _lock(server: RunningServer, case: Case) -> str:
    server.client.deploy(_package("known", case, "first"))
    lock = server.state.requirements_lock("known", server.client.agent("known").release or 0)
    server.client.stop("known")
    return lock.read_text() if lock.exists() else ""  # nothing needed, nothing locked


def _ours(server: RunningServer, case: Case, number: int) -> float:
    name = "known" if case.is_known else f"new-{number}"
    package = _package(name, case, str(number))
    began = time.perf_counter()
    server.client.deploy(package)
    seconds = time.perf_counter() - began
    agent = server.client.agent(name)
    assert agent.status == "running", agent
    if case.is_known:
        server.client.stop(name)
    else:
        server.client.remove(name)
    return seconds


def _package(name: str, case: Case, mark: str) -> bytes:
    extra = {"requirements.txt": case.requirements, "mark": mark}
    return zip_package("stdlib_agent", name=name, extra_files=extra)


def _bare(folder: Path, lock: str, cache: Path) -> float:
    """Install and start the same agent by hand."""
    code, venv = folder / "code", folder / "venv"
    code.mkdir()
    for path in (PACKAGES / "stdlib_agent").iterdir():
        if path.is_file():
            (code / path.name).write_bytes(path.read_bytes())
    requirements = folder / "requirements.lock"
    requirements.write_text(lock)
    command = [uv.find_uv_bin(), "--quiet", "--no-config", "--cache-dir", str(cache)]
    port = free_ports(1)
    environment = {**os.environ, "PORT": str(port), "HOST": "127.0.0.1"}
    began = time.perf_counter()
    _run([*command, "venv", "--python", sys.executable, str(venv)], environment)
    if any(line and not line.startswith("#") for line in lock.splitlines()):
        python = str(venv / "bin" / "python")
        sync = ["pip", "sync", "--offline", "--require-hashes", "--python", python]
        _run([*command, *sync, str(requirements)], environment)
    with subprocess.Popen([venv / "bin" / "python", "main.py"], cwd=code, env=environment) as agent:
        try:
            answer = health.wait_until_healthy(
                lambda: health.check("127.0.0.1", port, _QUESTION),
                still_alive=lambda: agent.poll() is None,
                deadline=time.monotonic() + 20,
            )
            seconds = time.perf_counter() - began
        finally:
            agent.kill()
    assert answer.healthy, answer
    return seconds


def _run(command: list[str], environment: Mapping[str, str]) -> None:
    subprocess.run(command, check=True, timeout=120, env=environment)

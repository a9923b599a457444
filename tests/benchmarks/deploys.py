"""From a ZIP to a healthy agent: the server, and the bare commands that nobody can do without."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import uv

from tests.benchmarks import bare_agents
from tests.benchmarks.figures import Figure, at_most, median
from tests.benchmarks.options import Options
from tests.package_zips import zip_package
from tests.servers import RunningServer, running_server

TYPICAL = "requests\npydantic\naiohttp\njinja2\npyyaml\n"


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of deployment.

    Attributes:
        name: Names the figure.
        requirements: The agent's dependencies.
        is_known: A release with the same dependencies was installed before.
        most: Times the floor; None: there is no goal.
        is_shared: What was installed then may serve again; else all of it is installed anew.
    """

    name: str
    requirements: str
    is_known: bool
    most: float | None
    is_shared: bool = False


CASES = (
    Case("deploy, no dependencies", "", is_known=False, most=1.3),
    Case("deploy, 5 packages, lock known", TYPICAL, is_known=True, most=1.3),
    Case("deploy, 5 packages, lock new", TYPICAL, is_known=False, most=1.2),
    Case(
        "deploy, 5 packages, environment known", TYPICAL, is_known=True, most=None, is_shared=True
    ),
)


def measure(root: Path, options: Options, cases: Sequence[Case] = CASES) -> Iterator[Figure]:
    """Measure every case, ours and the commands by hand in turns."""
    cache = root / "cache"
    with running_server(root / "state", cache_dir=cache) as server:
        for case in cases:
            lock = _lock(server, case)  # this warms the cache, too
            bare, ours = [], []
            for number in range(options.rounds):
                folder = Path(tempfile.mkdtemp(dir=root))
                bare.append(_bare(folder, case, lock, cache))
                if not case.is_shared:
                    _forget_environments(server)
                ours.append(_ours(server, case, number))
            server.client.remove("known")
            seconds = median(ours), median(bare)
            goal = case.most and at_most(f"<= {case.most} x floor", case.most * seconds[1])
            yield Figure(case.name, "s", *seconds, goal=goal or None)


def measure_bare(root: Path, options: Options) -> Iterator[Figure]:
    """Measure the one case that needs no package index."""
    yield from measure(root, options, [case for case in CASES if not case.requirements])


def _lock(server: RunningServer, case: Case) -> str:
    server.client.deploy(_package("known", case, "first"))
    lock = server.state.requirements_lock("known", server.client.agent("known").release or 0)
    server.client.stop("known")
    return lock.read_text() if lock.exists() else ""  # nothing needed, nothing locked


def _forget_environments(server: RunningServer) -> None:
    """Have the server share no environment that it has: they count only with their seals."""
    for seal in server.state.root.glob("environments/*/.whole.json"):
        seal.unlink()


def _ours(server: RunningServer, case: Case, number: int) -> float:
    name = "known" if case.is_known else f"new-{number}"
    package = _package(name, case, str(number))
    began = time.perf_counter()
    deployment = server.client.deploy(package).deployment
    seconds = time.perf_counter() - began
    agent = server.client.agent(name)
    assert agent.status == "running", agent
    assert deployment is not None
    (installed,) = (step.message for step in deployment.steps if step.name == "install")
    assert case.is_shared or "environment reused" not in installed, installed
    if case.is_known:
        server.client.stop(name)
    else:
        server.client.remove(name)
    return seconds


def _package(name: str, case: Case, mark: str) -> bytes:
    extra = {"requirements.txt": case.requirements, "mark.py": f"MARK = {mark!r}\n"}
    return zip_package("stdlib_agent", name=name, extra_files=extra)


def _bare(folder: Path, case: Case, lock: str, cache: Path) -> float:
    """Install and start the same agent by hand."""
    code, venv = bare_agents.copy_code(folder / "code"), folder / "venv"
    requirements = folder / "requirements.lock"
    requirements.write_text(lock)
    wanted = folder / "requirements.txt"
    wanted.write_text(case.requirements)
    command = [uv.find_uv_bin(), "--quiet", "--no-config", "--cache-dir", str(cache)]
    python = venv / "bin" / "python"
    began = time.perf_counter()
    _run([*command, "venv", "--offline", "--python", sys.executable, str(venv)], os.environ)
    if case.requirements:
        if not case.is_known:
            resolve = ["pip", "compile", "--no-build", "--generate-hashes", "--no-header"]
            target = ["--python", sys.executable, "--output-file", str(requirements), str(wanted)]
            requirements.unlink()
            _run([*command, *resolve, *target], os.environ)
        sync = ["pip", "sync", "--offline", "--require-hashes", "--python", str(python)]
        _run([*command, *sync, str(requirements)], os.environ)
    with bare_agents.started(python, code):
        return time.perf_counter() - began


def _run(command: list[str], environment: Mapping[str, str]) -> None:
    subprocess.run(command, check=True, timeout=120, env=environment)

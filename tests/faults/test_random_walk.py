"""Whatever is done in whatever order: what runs becomes what is desired, and stays whole."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import psutil
import pytest
import requests
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from deployer.errors import DeployerError
from tests.package_zips import zip_package
from tests.servers import RunningServer, running_server, wait_until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

NAMES = ("one", "two")
PACKAGES = {
    (name, version): zip_package("stdlib_agent", name=name, version=version)
    for name in NAMES
    for version in ("1.0.0", "2.0.0")
}
BROKEN = {name: zip_package("exits_at_once", name=name, version="9.0.0") for name in NAMES}
agents = st.sampled_from(NAMES)


@pytest.fixture(scope="module", autouse=True)
def _walk_here(tmp_path_factory: pytest.TempPathFactory, installer_cache: Path) -> Iterator[None]:
    with running_server(tmp_path_factory.mktemp("w") / "s", cache_dir=installer_cache) as server:
        Walk.server = server
        yield


class Walk(RuleBasedStateMachine):
    """Acts on two agents; `wanted` is what each should come to."""

    server: ClassVar[RunningServer]

    def __init__(self) -> None:
        super().__init__()
        self.wanted: dict[str, str] = {}
        self.versions: dict[str, str] = {}
        for agent in self.server.client.agents():
            self.server.client.remove(agent.name)

    @rule(name=agents, version=st.sampled_from(("1.0.0", "2.0.0")))
    def deploy(self, name: str, version: str) -> None:
        self.server.client.deploy(PACKAGES[name, version])
        self.wanted[name], self.versions[name] = "running", version

    @rule(name=agents)
    def deploy_something_broken(self, name: str) -> None:
        with pytest.raises(DeployerError):
            self.server.client.deploy(BROKEN[name])

    @precondition(lambda self: self.wanted)
    @rule(name=agents)
    def stop(self, name: str) -> None:
        if name in self.wanted:
            self.server.client.stop(name)
            self.wanted[name] = "stopped"

    @precondition(lambda self: self.wanted)
    @rule(name=agents)
    def start(self, name: str) -> None:
        if name in self.wanted:
            self.server.client.start(name)
            self.wanted[name] = "running"

    @precondition(lambda self: self.wanted)
    @rule(name=agents)
    def roll_back(self, name: str) -> None:
        if name not in self.wanted:
            return
        before = self.server.client.agent(name).document["previous_release"]
        if before is not None:
            self.server.client.rollback(name)
            self.wanted[name] = "running"
            self.versions[name] = self.server.client.agent(name).version

    @precondition(lambda self: self.wanted)
    @rule(name=agents)
    def kill_the_agent(self, name: str) -> None:
        pid = self.server.client.agent(name).pid if name in self.wanted else None
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    @precondition(lambda self: self.wanted)
    @rule(name=agents, verb=st.sampled_from(("start", "stop")))
    def use_supervisorctl(self, name: str, verb: str) -> None:
        if name not in self.wanted:
            return
        self._settle()  # an operator looks before acting
        program = self.server.client.agent(name).document["program"]
        conf = str(self.server.state.supervisord_conf)
        command = [sys.executable, "-m", "supervisor.supervisorctl", "-c", conf, verb, program]
        subprocess.run(command, check=False, capture_output=True, timeout=30)
        self.wanted[name] = {"start": "running", "stop": "stopped"}[verb]
        wait_until(lambda: self.server.client.agent(name).document["desired"] == self.wanted[name])

    @rule()
    def kill_the_api(self) -> None:
        api = psutil.Process(self.server.api_pid())
        api.kill()
        api.wait(30)
        self.server.start_api()
        wait_until(self.server.is_ready, 30)

    @invariant()
    def it_converges(self) -> None:
        self._settle()
        leases = {lease.agent: lease.port for lease in self.server.client.ports().leases}
        for agent in self.server.client.agents():
            assert agent.version == self.versions[agent.name]
            assert (agent.name in leases) == (self.wanted[agent.name] == "running")
            if self.wanted[agent.name] == "running":
                info = requests.get(f"{agent.url}/info", timeout=10).json()
                assert info["pid"] == agent.pid

    def _settle(self) -> None:
        def statuses() -> dict[str, str]:
            return {agent.name: agent.status for agent in self.server.client.agents()}

        wait_until(lambda: statuses() == self.wanted, 60, f"{self.wanted}, not {statuses()}")


Walk.TestCase.settings = settings(
    max_examples=5,
    stateful_step_count=12,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
TestWalk = Walk.TestCase

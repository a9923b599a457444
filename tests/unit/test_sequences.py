"""What sequences make of rows and processes, where no real server comes to at the right moment."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any, cast

import pytest

from deployer.agents import Agents
from deployer.deployments import Deployments
from deployer.errors import ReleaseInUseError, StopError
from deployer.model import Deployment, DeploymentStatus, Desired, Package, Release, Strategy
from deployer.parts import Parts
from deployer.runs import Run
from deployer.settings import Settings
from deployer.state_dir import StateDir
from deployer.store import Request, Store, now

PACKAGE = Package(
    md5="a" * 32,
    sha256="b" * 64,
    size_bytes=10,
    agent="greeter",
    version="1.0",
    received_at=now(),
    manifest='{"agent": {"name": "greeter"}}',
    requirements=(),
    entry_point="script main.py",
    unpacked_bytes=100,
    entries=3,
)


class Processes:
    """Runs of releases by their numbers: those that are up, and those that supervisord knows."""

    def __init__(self) -> None:
        self.up: set[int] = set()
        self.known: set[int] = set()
        self.fails_to_discard = False

    def is_up(self, release: Release) -> bool:
        return release.number in self.up

    def is_serving(self, release: Release) -> bool:
        return release.number in self.up

    def is_known(self, release: Release) -> bool:
        return release.number in self.known

    def bring_up(self, release: Release, **_options: object) -> Run:
        self.up.add(release.number)
        self.known.add(release.number)
        return Run(release, 8100, 1, 0.0)

    def soak(self, _run: Run, _watcher: object) -> None:
        """Be well all the time."""

    def compile(self, _release: Release) -> None:
        """Compile nothing."""

    def find_obstacle(self, _release: Release) -> str:
        """Find nothing wrong."""
        return ""

    def free_identity(self, _agent: str) -> None:
        """Nobody has a user of their own."""

    def take_down(self, release: Release, **_options: object) -> None:
        self.up.discard(release.number)

    def discard(self, release: Release) -> None:
        if self.fails_to_discard:
            raise StopError("cannot stop greeter: its process outlives SIGKILL")
        self.take_down(release)
        self.known.discard(release.number)


class Quiet:
    """An adapter that finds nothing wrong with anything, and does nothing."""

    def __getattr__(self, _name: str) -> Any:
        return lambda *_arguments, **_options: None


class Server:
    """An agent with two releases, of which the first one serves."""

    def __init__(self, root: Path) -> None:
        self.processes = Processes()
        self.store = Store(root / "state.db")
        self.store.packages.add(PACKAGE)
        self.store.agents.add("greeter")
        self.releases = [self.store.releases.add(PACKAGE) for _ in range(2)]
        self.store.agents.activate("greeter", 1, None)
        self.store.agents.set_desired("greeter", Desired.RUNNING)
        self.processes.bring_up(self.releases[0])
        adapters: dict[str, Any] = {
            each.name: Quiet() for each in fields(Parts) if each.default_factory is MISSING
        }
        adapters |= {"settings": Settings(state_dir=root), "state": StateDir(root)}
        self.parts = Parts(**{**adapters, "store": self.store})
        self.agents = Agents(self.parts, cast("Any", self.processes))
        self.deployments = Deployments(
            self.parts,
            cast("Any", Quiet()),
            runs=cast("Any", self.processes),
            scans=cast("Any", Quiet()),
        )

    def go_to_second(self, strategy: Strategy = Strategy.PARALLEL) -> Deployment:
        """Queue a deployment of the release that is there and not current."""
        return self.store.deployments.submit(Request(PACKAGE, strategy, release=2))

    def is_second_current(self) -> bool:
        return self.store.agents.get("greeter").current == 2


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    it = Server(tmp_path)
    yield it
    it.store.close()


def test_a_cancel_after_the_activation_still_ends_the_release_before(server: Server) -> None:
    deployment = server.go_to_second()
    server.deployments.run(deployment, canceled=server.is_second_current)
    assert server.store.deployments.get(deployment.id).status is DeploymentStatus.SUCCEEDED
    assert server.processes.up == {2}


def test_a_deployment_that_cannot_tidy_up_has_succeeded_all_the_same(server: Server) -> None:
    server.processes.fails_to_discard = True
    deployment = server.go_to_second()
    server.deployments.run(deployment, canceled=lambda: False)
    assert server.store.deployments.get(deployment.id).status is DeploymentStatus.SUCCEEDED
    last = server.store.events.after(0, limit=100)[-1]
    assert last.kind == "deployment.succeeded"


def test_a_release_that_becomes_current_begins_without_failures(server: Server) -> None:
    server.parts.retries.record_failure("greeter", now(), is_crash_loop=True)
    server.deployments.run(server.go_to_second(), canceled=lambda: False)
    assert server.parts.retries.of("greeter") is None


def test_an_agent_of_a_name_that_was_removed_begins_without_failures(server: Server) -> None:
    server.parts.retries.record_failure("greeter", now(), is_crash_loop=True)
    server.agents.remove("greeter")
    assert server.parts.retries.of("greeter") is None


def test_an_agent_that_somebody_started_meanwhile_is_not_put_to_rest(server: Server) -> None:
    server.agents.put_to_rest("greeter")
    assert server.processes.up == {1}
    server.store.agents.set_desired("greeter", Desired.STOPPED)
    server.agents.put_to_rest("greeter")
    assert server.processes.up == set()


def test_a_release_that_a_rollback_waits_for_is_not_deleted(server: Server) -> None:
    server.store.agents.activate("greeter", 2, None)
    request = Request(PACKAGE, Strategy.PARALLEL, release=1)
    waiting = server.store.deployments.submit(request)
    with pytest.raises(ReleaseInUseError, match="waits for"):
        server.deployments.delete_release("greeter", 1)
    server.store.deployments.cancel_queued(waiting)
    server.deployments.delete_release("greeter", 1)
    assert [each.number for each in server.store.releases.of_agent("greeter")] == [2]


def test_retention_keeps_a_release_that_a_rollback_waits_for(server: Server) -> None:
    for _ in range(6):
        server.releases.append(server.store.releases.add(PACKAGE))
    request = Request(PACKAGE, Strategy.PARALLEL, release=8)
    running = server.store.deployments.submit(request)
    server.store.deployments.submit(replace(request, release=3))
    server.deployments.run(running, canceled=lambda: False)
    kept = {each.number for each in server.store.releases.of_agent("greeter")}
    assert kept == {8, 7, 6, 5, 4, 3, 1}

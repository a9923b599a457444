"""What sequences make of rows and processes, where no real server comes to at the right moment."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import closing
from dataclasses import MISSING, fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from deployer import deployments as sequence
from deployer.agents import Agents
from deployer.api import documents
from deployer.deployments import Deployments
from deployer.errors import ReleaseInUseError, StartError, StopError
from deployer.model import (
    Deployment,
    DeploymentStatus,
    Desired,
    Process,
    Release,
    ReleaseStatus,
    Run,
    State,
    Strategy,
)
from deployer.parts import Parts
from deployer.releases import ReleaseFiles
from deployer.settings import Settings
from deployer.state_dir import StateDir
from deployer.store import Request, Store, now
from tests.package_zips import zip_package
from tests.stored_packages import PACKAGE


class Processes:
    """Runs of releases by their numbers: those that are up, and those that supervisord knows."""

    def __init__(self) -> None:
        self.up: set[int] = set()
        self.known: set[int] = set()
        self.fails_to_discard = False
        self.broken: set[int] = set()
        self.acts: list[str] = []

    def is_up(self, release: Release) -> bool:
        return release.number in self.up

    def is_serving(self, release: Release) -> bool:
        return release.number in self.up

    def is_known(self, release: Release) -> bool:
        return release.number in self.known

    def bring_up(self, release: Release, **_options: object) -> Run:
        self.acts.append(f"bring up {release.number}")
        self.known.add(release.number)
        if release.number in self.broken:
            raise StartError("cannot start greeter: it exits at once")
        self.up.add(release.number)
        return Run(release, 8100 + release.number, 1, 0.0)

    def let_go(self, _release: Release) -> None:
        """Hold nobody's socket."""

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
        self.acts.append(f"take down {release.number}")
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


class Installers(Quiet):
    """Something that has a Python for everybody, and installs nothing."""

    def choose_python(self, _wanted: object, **_options: object) -> SimpleNamespace:
        return SimpleNamespace(version="3.11.2", path=Path("/usr/bin/python3"))


class Files(Quiet):
    """Directories of releases, some of which cannot be deleted."""

    def __init__(self, processes: Processes) -> None:
        self.processes = processes
        self.fails_to_delete = False

    def delete(self, _agent: str, number: int) -> None:
        self.processes.acts.append(f"delete {number}")
        if self.fails_to_delete:
            raise OSError(errno.EBUSY, "Device or resource busy")

    def find_damage(self, _release: Release) -> str:
        return ""


class Server:
    """An agent with two releases, of which the first one serves."""

    def __init__(self, root: Path, **settings: Any) -> None:
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
        self.files = Files(self.processes)
        adapters |= {"settings": Settings(state_dir=root, **settings), "state": StateDir(root)}
        adapters["files"] = self.files
        self.parts = Parts(**{**adapters, "store": self.store})
        self.agents = Agents(self.parts, cast("Any", self.processes))
        self.deployments = Deployments(
            self.parts,
            cast("Any", Installers()),
            runs=cast("Any", self.processes),
            scans=cast("Any", Quiet()),
        )

    def go_to_second(self, strategy: Strategy = Strategy.PARALLEL) -> Deployment:
        """Queue a deployment of the release that is there and not current."""
        return self.store.deployments.submit(Request(PACKAGE, strategy, release=2))

    def begin_second(self) -> Deployment:
        """Begin a deployment that has just made the second release."""
        deployment = self.store.deployments.submit(Request(PACKAGE, Strategy.REPLACE))
        assert self.store.deployments.begin(deployment)
        self.store.deployments.set_release(deployment, 2)
        return deployment

    def status_of(self, deployment: Deployment) -> DeploymentStatus:
        return self.store.deployments.get(deployment.id).status

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


def test_an_agent_that_somebody_started_meanwhile_is_not_stopped(server: Server) -> None:
    server.agents.stop_as_desired("greeter")
    assert server.processes.up == {1}
    server.store.agents.set_desired("greeter", Desired.STOPPED)
    server.agents.stop_as_desired("greeter")
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


def test_as_many_releases_are_kept_as_the_settings_say(tmp_path: Path) -> None:
    server = Server(tmp_path, releases_kept=2)
    with closing(server.store):
        for _ in range(3):
            server.releases.append(server.store.releases.add(PACKAGE))
        request = Request(PACKAGE, Strategy.PARALLEL, release=5)
        running = server.store.deployments.submit(request)
        server.deployments.run(running, canceled=lambda: False)
        kept = [each.number for each in server.store.releases.of_agent("greeter")]
    assert kept == [5, 4, 1]  # and the one to go back to


def test_the_limits_of_the_settings_hold_also_when_a_package_is_unpacked(tmp_path: Path) -> None:
    server = Server(tmp_path, limits={"entries": 1})
    with closing(server.store):
        files = ReleaseFiles(StateDir(tmp_path))
        vars(server.files).update(archive=files.archive, prepare=files.prepare)
        archive = files.archive(PACKAGE.sha256)
        archive.parent.mkdir()
        (tmp_path / "agents").mkdir()
        archive.write_bytes(zip_package("stdlib_agent"))
        deployment = server.store.deployments.submit(Request(PACKAGE, Strategy.REPLACE))
        server.deployments.run(deployment, canceled=lambda: False)
        ended = server.store.deployments.get(deployment.id)
    assert ended.failure is not None
    assert (ended.failure.code, ended.steps[-1].name) == ("package-invalid", "unpack")
    assert "entries, more than 1" in ended.failure.detail


def test_the_release_before_is_back_before_anything_is_deleted(server: Server) -> None:
    deployment = server.begin_second()
    server.processes.take_down(server.releases[0])
    server.processes.acts.clear()

    server.deployments.abandon(deployment)

    assert server.processes.acts[:2] == ["take down 2", "bring up 1"]
    assert server.processes.acts[-1] == "delete 2"


def test_a_release_that_cannot_be_deleted_keeps_nobody_from_serving(server: Server) -> None:
    server.files.fails_to_delete = True
    deployment = server.begin_second()
    server.processes.take_down(server.releases[0])

    server.deployments.abandon(deployment)

    assert server.processes.up == {1}
    assert server.status_of(deployment) is DeploymentStatus.ABANDONED
    left = server.store.releases.get("greeter", 2)
    assert left.status is ReleaseStatus.DISCARDED  # so that it is deleted later


def test_a_release_before_that_does_not_come_back_still_lets_the_new_one_go(
    server: Server,
) -> None:
    deployment = server.begin_second()
    server.processes.take_down(server.releases[0])
    server.processes.broken = {1}

    server.deployments.abandon(deployment)

    assert "delete 2" in server.processes.acts
    assert server.status_of(deployment) is DeploymentStatus.ABANDONED
    assert "exits at once" in server.store.agents.get("greeter").last_error


def test_a_deployment_that_ends_before_its_activation_moves_no_port(server: Server) -> None:
    server.store.agents.set_port("greeter", 8101)
    deployment = server.go_to_second()

    server.deployments.run(deployment, canceled=lambda: 2 in server.processes.up)

    assert server.status_of(deployment) is DeploymentStatus.CANCELED
    assert server.store.agents.get("greeter").port == 8101


def test_on_a_full_disk_what_serves_is_not_stopped_for_what_could_not_start(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sequence, "_TAKE_OVER_BYTES", 2**62)
    deployment = server.go_to_second(Strategy.REPLACE)

    server.deployments.run(deployment, canceled=lambda: False)

    assert "take down 1" not in server.processes.acts
    failure = server.store.deployments.get(deployment.id).failure
    assert failure is not None
    assert "disk full" in failure.cause


def test_what_the_disk_has_no_room_for_is_not_even_unpacked(server: Server, tmp_path: Path) -> None:
    large = replace(PACKAGE, md5="c" * 32, sha256="d" * 64, unpacked_bytes=2**62)
    server.store.packages.add(large)
    deployment = server.store.deployments.submit(Request(large, Strategy.REPLACE))

    server.deployments.run(deployment, canceled=lambda: False)

    ended = server.store.deployments.get(deployment.id)
    assert ended.failure is not None
    assert (ended.failure.code, ended.steps[-1].name) == ("no-space", "unpack")
    assert "bytes left" in ended.failure.cause
    assert server.processes.up == {1}
    assert [each.number for each in server.store.releases.of_agent("greeter")] == [2, 1]
    assert not list(tmp_path.glob("agents/*"))


def test_a_release_that_never_served_leaves_the_way_back_as_it_was(server: Server) -> None:
    for release in server.releases:
        server.store.releases.set_status(release, ReleaseStatus.PROVEN)
    third = server.store.releases.add(PACKAGE)
    server.store.releases.set_status(third, ReleaseStatus.INSTALLED)
    server.store.agents.activate("greeter", 3, 2)
    server.processes.take_down(server.releases[0])
    server.processes.broken = {3}

    with pytest.raises(StartError):
        server.agents.start("greeter")

    agent = server.store.agents.get("greeter")
    assert (agent.current, agent.previous) == (2, 1)


def test_who_serves_is_not_stopped_for_another_run_that_is_over_a_limit(tmp_path: Path) -> None:
    server = Server(tmp_path)

    server.agents.stop_over_limit("greeter", "it floods", run=("greeter--2", 42))

    assert server.store.agents.get("greeter").desired is Desired.RUNNING
    assert server.processes.up == {1}


def test_a_level_that_a_later_server_wrote_hides_no_agent(tmp_path: Path) -> None:
    server = Server(tmp_path)
    server.store.agents.set_isolation("greeter", "armoured")
    process = Process("greeter--1", State.RUNNING, pid=7)
    view = replace(server.agents.view("greeter"), process=process)

    assert documents.agent(view, "localhost", None, secrets_changed=False).isolation == "none"

"""The Python client against a real server, and through the death of its API."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deployer.client import Client, Event, Step
from deployer.errors import AgentUnknownError, PackageInvalidError
from tests.package_zips import zip_package
from tests.servers import RunningServer, running_server, wait_until


@pytest.fixture(scope="module")
def own_server(
    tmp_path_factory: pytest.TempPathFactory, installer_cache: Path
) -> Iterator[RunningServer]:
    """A server whose API may be killed."""
    root = tmp_path_factory.mktemp("c") / "state"
    with running_server(root, cache_dir=installer_cache) as server:
        yield server


@pytest.fixture
def own(own_server: RunningServer) -> Iterator[Client]:
    with own_server.client as client:
        yield client
    with own_server.client as client:
        for agent in client.agents():
            client.remove(agent.name)


class Gathered:
    """What a thread has got out of an iterator so far; it ends with the test's process."""

    def __init__(self, source: Iterator[Any]) -> None:
        self.items: list[Any] = []
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._gather, args=(source,), daemon=True)
        self._thread.start()

    def _gather(self, source: Iterator[Any]) -> None:
        try:
            for item in source:
                self.items.append(item)
        except Exception as error:  # noqa: BLE001 - looked at by the test
            self.error = error

    def wait_for(self, condition: Callable[[list[Any]], object]) -> None:
        wait_until(lambda: self.error or condition(self.items), 60)
        assert self.error is None, self.error


def test_events_are_followed_through_the_death_of_the_api(
    own_server: RunningServer, own: Client
) -> None:
    after = own.events()[-1].id if own.events() else 0
    following = Gathered(own_server.client.follow_events(after=after))
    own.deploy(zip_package("stdlib_agent", name="before"))
    following.wait_for(lambda events: any(each.agent == "before" for each in events))
    own_server.kill_api()
    own_server.start_api()
    own.deploy(zip_package("stdlib_agent", name="after"))
    last = own.events(after=after)[-1]
    following.wait_for(lambda events: events and events[-1].id >= last.id)
    seen: list[Event] = following.items
    known = [each.id for each in own.events(after=after) if each.id <= seen[-1].id]
    assert [each.id for each in seen] == known  # each once, and in order


def test_a_log_is_followed_through_the_death_of_the_api(
    own_server: RunningServer, own: Client
) -> None:
    own.deploy(zip_package("stdlib_agent", name="talks"))
    own.restart("talks")
    following = Gathered(own_server.client.follow_logs("talks", stream="stderr"))
    lines = own.logs("talks", stream="stderr").lines
    following.wait_for(lambda got: len(got) >= len(lines))
    own_server.kill_api()
    own_server.start_api()
    own.restart("talks")
    whole = own.logs("talks", stream="stderr").lines
    following.wait_for(lambda got: len(got) >= len(whole))
    assert tuple(following.items[: len(whole)]) == whole


def test_a_deployment_outlives_the_api_in_the_hands_of_its_client(
    own_server: RunningServer, own: Client
) -> None:
    own.deploy(zip_package("stdlib_agent", name="tough"))
    steps: list[Step] = []

    def kill_at_the_start(step: Step) -> None:
        if step.name == "upload" and step.outcome == "done":
            own_server.kill_api()
            own_server.start_api()
        steps.append(step)

    deployed = own.deploy(
        zip_package("stdlib_agent", name="tough", version="2.0.0"), on_progress=kill_at_the_start
    )
    assert deployed.connection is not None
    assert (deployed.connection.version, deployed.connection.status) == ("2.0.0", "running")
    assert {"upload", "install"} <= {step.name for step in steps}


def test_an_act_outlives_the_api(own_server: RunningServer, own: Client) -> None:
    own.deploy(zip_package("stdlib_agent", name="acts"))
    own_server.kill_api()  # supervisord starts it again by itself
    assert own.restart("acts").status == "running"
    assert own.create_key("outlives").key


def test_a_file_is_read_as_it_is_sent(own: Client, tmp_path: Path) -> None:
    package = tmp_path / "large.zip"
    large = {f"{number}.bin": bytes(1024 * 1024) for number in range(3)}
    package.write_bytes(zip_package("stdlib_agent", name="large", extra_files=large))
    told: list[str] = []
    own.upload(package, on_progress=lambda step: told.append(step.outcome))
    assert (told[0], told[-1]) == ("running", "done")
    with pytest.raises(PackageInvalidError):
        own.upload(b"no ZIP")


def test_the_server_tells_of_itself(own: Client) -> None:
    assert own.liveness() == "alive"
    assert own.readiness().status == "ready"
    assert all(check.ok for check in own.readiness().checks)
    assert "atoll_deployer_" in own.metrics()
    assert own.contract()["openapi"].startswith("3.1")


def test_one_release_and_one_key_can_be_looked_at(own: Client) -> None:
    own.deploy(zip_package("stdlib_agent", name="looked"))
    assert own.release("looked", 1) == own.releases("looked")[0]
    made = own.create_key("looked-at", agents=["looked"])
    assert own.key(made.id).name == "looked-at"
    own.revoke_key(made.id)
    with pytest.raises(AgentUnknownError):
        own.agent("nobody")

"""What operators have supervisord do while the API is away: meant, and found so afterwards."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from deployer.client import Agent
from deployer.supervisor_rpc import Rpc
from deployer.supervisord_confs import SERVICE, read_credentials
from tests.package_zips import zip_package
from tests.servers import RunningServer, running_server, wait_until

AGENT = "stdlib_agent"
NO_RESTARTS = {"[health]": "[deployment]\nauto_restart = false\n[health]"}


@pytest.fixture(scope="module")
def operated(
    tmp_path_factory: pytest.TempPathFactory, installer_cache: Path
) -> Iterator[RunningServer]:
    """A server whose API is away now and then."""
    root = tmp_path_factory.mktemp("op") / "state"
    with running_server(root, cache_dir=installer_cache) as server:
        yield server


@pytest.fixture
def server(operated: RunningServer) -> Iterator[RunningServer]:
    yield operated
    wait_until(operated.is_ready)
    for agent in operated.client.agents():
        operated.client.remove(agent.name)


@contextlib.contextmanager
def api_away(server: RunningServer, how: str = "stopped") -> Iterator[None]:
    """Have no API while the block runs: stopped as for an upgrade, or hanging and killed after."""
    api = psutil.Process(server.api_pid())
    if how == "stopped":
        server.ctl("stop", SERVICE)
    else:
        api.suspend()
    try:
        yield
    finally:
        if how == "hanging":
            api.kill()
        api.wait(30)
        server.start_api()
        wait_until(server.is_ready)


def become(server: RunningServer, status: str, name: str = AGENT) -> Agent:
    """Wait until an agent has a status, and give it."""
    agent: Agent = wait_until(
        lambda: (found := server.client.agent(name)).status == status and found,
        what=f"{name} is {status}",
    )
    return agent


def desired(server: RunningServer, name: str = AGENT) -> str:
    return str(server.client.agent(name).document["desired"])


def told(server: RunningServer, name: str = AGENT) -> list[str]:
    """Give what the timeline says of acts through supervisord, since the agent is there."""
    messages: list[str] = []
    for event in server.client.events(agent=name):
        if event.kind == "agent.removed":
            messages.clear()
        elif "through supervisord" in event.message:
            messages.append(event.message)
    return messages


@pytest.mark.parametrize("how", ["stopped", "hanging"])
def test_a_stop_while_the_api_is_away_is_meant(server: RunningServer, how: str) -> None:
    server.client.deploy(zip_package(AGENT))
    with api_away(server, how):
        server.ctl("stop", f"{AGENT}--1")
    assert (become(server, "stopped").pid, desired(server)) == (None, "stopped")
    (sentence,) = told(server)
    assert "was stopped" in sentence
    assert "while this server was away" in sentence
    assert server.client.ports().leases == ()


def test_a_start_while_the_api_is_away_is_meant(server: RunningServer) -> None:
    server.client.deploy(zip_package(AGENT))
    port = server.client.agent(AGENT).port
    server.client.stop(AGENT)
    with api_away(server):
        server.ctl("start", f"{AGENT}--1")
    agent = become(server, "running")
    assert (agent.port, desired(server)) == (port, "running")
    assert "was started" in told(server)[0]
    assert [lease.port for lease in server.client.ports().leases] == [port]


def test_a_stop_that_still_takes_its_time_is_meant_as_well(server: RunningServer) -> None:
    patient = {"[health]": "[deployment]\nstop_seconds = 5\n[health]"}
    server.client.deploy(zip_package("ignores_term", replace=patient))
    with api_away(server):
        credentials = read_credentials(server.state)
        url = f"unix://{server.state.supervisor_socket}"
        rpc = Rpc(url, credentials.username, credentials.password, 10)
        rpc.call("stop it", "supervisor.stopProcess", "ignores_term--1", False)  # noqa: FBT003 - wait
        wait_until(lambda: "STOPPING" in server.ctl("status", "ignores_term--1"))
    become(server, "stopped", "ignores_term")
    assert desired(server, "ignores_term") == "stopped"
    wait_until(lambda: server.client.ports().leases == ())


def test_a_death_while_the_api_is_away_is_no_stop(server: RunningServer) -> None:
    server.client.deploy(zip_package(AGENT, name="restarted"))
    server.client.deploy(zip_package(AGENT, name="left", replace=NO_RESTARTS))
    before = {agent.name: agent.pid for agent in server.client.agents()}
    with api_away(server):
        for pid in before.values():
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: {"EXITED", "FATAL"} & set(server.ctl("status", "left--1").split()))
    assert become(server, "running", "restarted").pid != before["restarted"]
    become(server, "failed", "left")
    assert [desired(server, name) for name in before] == ["running", "running"]
    assert told(server, "left") == told(server, "restarted") == []


def test_the_end_of_supervisord_while_the_api_is_away_is_no_act(server: RunningServer) -> None:
    server.client.deploy(zip_package(AGENT))
    server.ctl("stop", SERVICE)
    server.stop()
    server.start()
    become(server, "running")
    assert (desired(server), told(server)) == ("running", [])


def test_an_act_is_taken_once_and_not_again_over_a_later_one(server: RunningServer) -> None:
    server.client.deploy(zip_package(AGENT))
    with api_away(server):
        server.ctl("stop", f"{AGENT}--1")
    become(server, "stopped")
    with api_away(server):
        pass
    assert become(server, "stopped").document["desired"] == "stopped"
    server.client.start(AGENT)
    with api_away(server):
        pass
    assert (become(server, "running").document["desired"], len(told(server))) == ("running", 1)


def test_what_is_stopped_after_a_deployment_was_killed_is_not_brought_back(
    server: RunningServer,
) -> None:
    server.client.deploy(zip_package(AGENT, version="1.0.0"))
    package = server.client.upload(zip_package("never_binds", name=AGENT))
    answer = server.request("POST", "/v1/deployments", json={"package": package.md5})

    def steps() -> list[str]:
        return [step.name for step in server.client.deployment(answer.json()["id"]).steps]

    wait_until(lambda: "health_check" in steps())
    with api_away(server, "hanging"):
        server.ctl("stop", f"{AGENT}--1")
    assert server.client.deployment(answer.json()["id"]).status == "abandoned"
    agent = become(server, "stopped")
    assert (agent.version, desired(server)) == ("1.0.0", "stopped")

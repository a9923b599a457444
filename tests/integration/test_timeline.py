"""The timeline: what happens to an agent, each thing once, in the order in which it happens."""

from __future__ import annotations

import os
import signal

from deployer.client import Event
from deployer.errors import DeployerError
from tests.package_zips import zip_package
from tests.servers import RunningServer, wait_until

NAME = "lived"


def since(server: RunningServer, last: int) -> list[Event]:
    return server.client.events(agent=NAME, after=last)


def kinds(events: list[Event]) -> list[str]:
    return [event.kind for event in events]


def test_the_life_of_an_agent_is_told_in_its_order(server: RunningServer) -> None:
    client = server.client
    client.deploy(zip_package("stdlib_agent", name=NAME, version="1.0.0"))
    first = client.events(agent=NAME)
    assert kinds(first) == [
        "package.received",
        "deployment.started",
        "release.made",
        "process.started",
        "agent.healthy",
        "deployment.succeeded",
    ]

    pid = client.agent(NAME).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: "agent.healthy" in kinds(since(server, first[-1].id)))
    crash = since(server, first[-1].id)
    assert kinds(crash) == ["process.died", "process.started", "agent.healthy"]
    assert f"pid {client.agent(NAME).pid}" in crash[1].message

    client.deploy(zip_package("stdlib_agent", name=NAME, version="2.0.0"), strategy="rehearse")
    update = since(server, crash[-1].id)
    assert kinds(update) == [
        "package.received",
        "deployment.started",
        "release.made",
        "process.started",
        "process.started",
        "agent.healthy",
        "deployment.succeeded",
    ]
    assert "to rehearse" in update[3].message
    assert "to rehearse" not in update[4].message

    client.rollback(NAME)
    back = since(server, update[-1].id)
    assert kinds(back)[0] == "deployment.started"
    assert kinds(back)[-2:] == ["agent.healthy", "deployment.succeeded"]
    assert "release.made" not in kinds(back)

    client.stop(NAME)
    client.start(NAME)
    client.kill(NAME)
    client.remove(NAME)
    acts = since(server, back[-1].id)
    assert kinds(acts) == [
        "agent.stopped",
        "process.started",
        "agent.started",
        "agent.killed",
        "agent.removed",
    ]
    whole = [*first, *crash, *update, *back, *acts]
    assert [event.id for event in whole] == sorted({event.id for event in whole})
    assert all(NAME in event.message for event in whole)


def test_a_start_through_supervisord_is_a_run_like_any_other(server: RunningServer) -> None:
    client = server.client
    client.deploy(zip_package("stdlib_agent", name=NAME, version="3.0.0"))
    client.stop(NAME)
    last = client.events(agent=NAME)[-1].id
    server.ctl("start", client.agent(NAME).document["program"])
    wait_until(lambda: "process.started" in kinds(since(server, last)))
    wait_until(lambda: client.agent(NAME).status == "running")
    told = since(server, last)
    assert kinds(told)[:2] == ["agent.started", "process.started"]


def test_a_deployment_that_fails_is_told_with_its_cause(server: RunningServer) -> None:
    last = max((event.id for event in server.client.events()), default=0)
    try:
        server.client.deploy(zip_package("exits_at_once", name=NAME))
    except DeployerError as error:
        cause = error.cause
    told = since(server, last)
    assert kinds(told)[-1] == "deployment.failed"
    assert cause in told[-1].message
    assert "agent.healthy" not in kinds(told)

"""Deployments through a real server: what serves, what is put back, what is left."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from deployer.errors import DeployerError
from tests.package_zips import zip_package
from tests.servers import RunningServer, wait_until

QUICK = {"start_seconds = 20": "start_seconds = 2"}


def call(server: RunningServer, name: str) -> dict[str, object]:
    url = server.client.agent(name).url
    assert url is not None
    answer: dict[str, object] = requests.get(f"{url}/info", timeout=10).json()
    return answer


def test_a_package_becomes_an_agent_that_answers(server: RunningServer) -> None:
    connection = server.client.deploy(zip_package("stdlib_agent"), wait_seconds=60)
    assert call(server, "stdlib_agent")["pid"] == server.client.agent("stdlib_agent").pid
    assert connection is not None


def test_the_same_package_again_makes_no_new_release(server: RunningServer) -> None:
    data = zip_package("stdlib_agent")
    server.client.deploy(data)
    before = server.client.agent("stdlib_agent")
    server.client.deploy(data)
    after = server.client.agent("stdlib_agent")
    assert (after.release, after.pid) == (before.release, before.pid)


def test_a_new_version_takes_the_port_of_the_old_one(server: RunningServer) -> None:
    server.client.deploy(zip_package("stdlib_agent", version="1.0.0"))
    before = server.client.agent("stdlib_agent")
    server.client.deploy(zip_package("stdlib_agent", version="2.0.0"))
    after = server.client.agent("stdlib_agent")
    assert (after.port, after.version, after.release) == (before.port, "2.0.0", 2)


def test_agents_and_releases_of_equal_needs_share_an_environment(server: RunningServer) -> None:
    server.client.deploy(zip_package("stdlib_agent", name="one"))
    server.client.deploy(zip_package("stdlib_agent", name="two"))
    server.client.deploy(zip_package("stdlib_agent", name="one", version="2.0.0"))
    shared = {server.state.venv(*each).readlink() for each in (("one", 1), ("one", 2), ("two", 1))}
    assert [path.parent for path in shared] == [server.state.environments]
    (install,) = [
        step for step in server.client.deployments(agent="one")[0].steps if step.name == "install"
    ]
    assert "environment reused" in install.message
    server.client.remove("one")
    assert call(server, "two")["pid"] == server.client.agent("two").pid


@pytest.mark.parametrize("broken", ["exits_at_once", "missing_module", "answers_500"])
def test_a_broken_new_version_is_replaced_by_the_old_one(
    server: RunningServer, broken: str
) -> None:
    server.client.deploy(zip_package("stdlib_agent"))
    with pytest.raises(DeployerError) as raised:
        server.client.deploy(
            zip_package(
                broken,
                name="stdlib_agent",
                replace=QUICK if broken == "answers_500" else {},
            )
        )
    agent = server.client.agent("stdlib_agent")
    assert agent.status == "running"
    assert agent.release == 1
    assert raised.value.cause
    assert server.client.deployments(agent="stdlib_agent")[0].status == "rolled_back"
    assert not server.state.release("stdlib_agent", 2).exists()


def test_ten_pushes_of_one_package_at_once_make_one_release(server: RunningServer) -> None:
    data = zip_package("stdlib_agent")
    with ThreadPoolExecutor(10) as pool:
        list(pool.map(lambda _: server.client.deploy(data), range(10)))
    assert [release.number for release in server.client.releases("stdlib_agent")] == [1]


def test_a_rollback_brings_the_release_before_back(server: RunningServer) -> None:
    server.client.deploy(zip_package("stdlib_agent", version="1.0.0"))
    server.client.deploy(zip_package("stdlib_agent", version="2.0.0"))
    server.client.rollback("stdlib_agent")
    agent = server.client.agent("stdlib_agent")
    assert (agent.version, agent.release, agent.status) == ("1.0.0", 1, "running")


def test_a_stopped_agent_frees_its_port_and_asks_for_it_again(server: RunningServer) -> None:
    server.client.deploy(zip_package("stdlib_agent"))
    before = server.client.agent("stdlib_agent")
    server.client.stop("stdlib_agent")
    assert server.client.ports().leases == ()
    server.client.start("stdlib_agent")
    assert server.client.agent("stdlib_agent").port == before.port


def test_a_killed_agent_comes_back_by_itself(server: RunningServer) -> None:
    server.client.deploy(zip_package("stdlib_agent"))
    before = server.client.agent("stdlib_agent")
    assert before.url is not None
    assert before.pid is not None
    os.kill(before.pid, signal.SIGKILL)
    wait_until(
        lambda: (
            (agent := server.client.agent("stdlib_agent")).status == "running"
            and agent.pid != before.pid
        )
    )
    assert server.client.agent("stdlib_agent").restarts == 1


def test_a_removed_agent_leaves_nothing(server: RunningServer) -> None:
    server.client.deploy(zip_package("stdlib_agent"))
    server.client.remove("stdlib_agent")
    assert not server.state.agent("stdlib_agent").exists()
    assert list(server.state.conf_d.glob("*.conf")) == []
    assert list(server.state.policies.iterdir()) == []

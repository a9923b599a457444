"""What SIGKILL of the API or of supervisord does: to agents nothing, or all at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from deployer.client import Agent
from deployer.leftovers import find_leftovers
from tests.package_zips import zip_package
from tests.servers import RunningServer, running_server, wait_until
from tests.supervisord_process import is_alive

IMPATIENT = {"[health]": "[deployment]\nstop_seconds = 1\n[health]"}


@pytest.fixture(scope="module")
def tough(
    tmp_path_factory: pytest.TempPathFactory, installer_cache: Path
) -> Iterator[RunningServer]:
    """A server whose parts are killed and come back."""
    root = tmp_path_factory.mktemp("k") / "state"
    with running_server(root, cache_dir=installer_cache) as server:
        yield server


@pytest.fixture
def server(tough: RunningServer) -> Iterator[RunningServer]:
    yield tough
    wait_until(tough.is_ready)
    for agent in tough.client.agents():
        tough.client.remove(agent.name)


def replace_api(server: RunningServer) -> None:
    """Kill the API and wait until supervisord has brought another that takes work."""
    server.kill_api()
    wait_until(server.is_ready)


def running(server: RunningServer, name: str) -> Agent:
    agent: Agent = wait_until(
        lambda: (found := server.client.agent(name)).status == "running" and found
    )
    return agent


def has_api(server: RunningServer) -> bool:
    try:
        return server.api_pid() > 0
    except (AssertionError, psutil.Error):
        return False


def begin(server: RunningServer, package: bytes) -> str:
    """Begin a deployment and give its id at once."""
    headers = {"Content-Type": "application/zip"}
    response = server.request("POST", "/v1/deployments", data=package, headers=headers)
    assert response.status_code == 202, response.text
    return str(response.json()["id"])


def step_of(server: RunningServer, deployment: str) -> str:
    steps = server.client.deployment(deployment).steps
    return steps[-1].name if steps else ""


def programs_of(server: RunningServer) -> list[str]:
    return sorted(path.stem for path in server.state.conf_d.glob("*.conf"))


def test_a_killed_api_is_back_and_no_agent_has_noticed(server: RunningServer) -> None:
    for name in ("up", "down"):
        server.client.deploy(zip_package("stdlib_agent", name=name))
    server.client.stop("down")
    before = server.client.agent("up")

    replace_api(server)

    after = running(server, "up")
    assert (after.pid, after.port, after.restarts) == (before.pid, before.port, 0)
    assert server.client.agent("down").status == "stopped"


def test_a_first_deployment_that_was_under_way_leaves_nothing(server: RunningServer) -> None:
    deployment = begin(server, zip_package("never_binds"))
    wait_until(lambda: step_of(server, deployment) == "health_check")

    replace_api(server)

    ended = server.client.deployment(deployment)
    assert ended.status == "abandoned"
    assert "health_check" in (ended.failure.detail if ended.failure else "")
    assert server.client.agents() == []
    assert server.client.ports().leases == ()
    assert programs_of(server) == []
    assert list(server.state.agents.iterdir()) == []
    assert not any("never_binds" in " ".join(each.cmdline()) for each in alive(server))


def test_an_update_that_was_under_way_gives_the_old_release_back(server: RunningServer) -> None:
    server.client.deploy(zip_package("stdlib_agent", version="1.0.0"))
    before = server.client.agent("stdlib_agent")
    package = zip_package("never_binds", name="stdlib_agent")
    deployment = begin(server, package)
    wait_until(lambda: step_of(server, deployment) == "health_check")

    replace_api(server)

    assert server.client.deployment(deployment).status == "abandoned"
    after = running(server, "stdlib_agent")
    assert (after.release, after.version, after.port) == (1, "1.0.0", before.port)
    assert programs_of(server) == ["stdlib_agent--1"]
    assert not server.state.release("stdlib_agent", 2).exists()
    assert len(server.client.ports().leases) == 1


def alive(server: RunningServer) -> list[psutil.Process]:
    return [each for each in find_leftovers(server.state.root) if is_alive(each.pid)]


def test_with_supervisord_everything_ends_and_the_next_one_brings_it_back(
    server: RunningServer,
) -> None:
    for name in ("up", "down"):
        server.client.deploy(zip_package("stdlib_agent", name=name))
    server.client.deploy(zip_package("ignores_term", name="stubborn", replace=IMPATIENT))
    server.client.stop("down")
    before = {agent.name: agent.port for agent in server.client.agents()}
    assert server.process is not None

    server.process.kill()
    server.process.wait(20)

    wait_until(lambda: alive(server) == [], seconds=15)
    server.start()
    for name in ("up", "stubborn"):
        assert running(server, name).port == before[name]
    assert server.client.agent("down").status == "stopped"


def test_what_outlived_both_is_ended_before_the_next_server_starts(server: RunningServer) -> None:
    package = zip_package("forks_and_dies", replace={'SECONDS = "0"': 'SECONDS = "600"'})
    server.client.deploy(package)
    port = server.client.agent("forks_and_dies").port
    assert server.process is not None
    api = psutil.Process(server.api_pid())
    api.suspend()  # or it would sweep
    server.process.kill()
    server.process.wait(20)
    api.kill()
    (orphan,) = wait_until(lambda: len(left := alive(server)) == 1 and left)

    server.start()

    assert not is_alive(orphan.pid)
    assert running(server, "forks_and_dies").port == port


def test_an_api_killed_again_and_again_still_comes_back(server: RunningServer) -> None:
    server.client.deploy(zip_package("stdlib_agent"))
    before = server.client.agent("stdlib_agent").pid
    for _ in range(4):
        server.kill_api()
        wait_until(lambda: has_api(server))
    wait_until(server.is_ready)
    assert running(server, "stdlib_agent").pid == before

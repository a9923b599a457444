"""Packages as people write them: dependencies from the index, frameworks, ATOLL's own runner."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

from deployer.errors import EntryPointMissingError
from tests.package_zips import build_wheel, zip_package
from tests.servers import RunningServer

GREETER = Path(__file__).parents[2] / "examples" / "greeter"


def ask(server: RunningServer, name: str, path: str) -> Any:
    return requests.get(f"{server.client.agent(name).url}{path}", timeout=10).json()


def installed(server: RunningServer, name: str) -> set[str]:
    """Name what stands in the lock of an agent's first release."""
    lock = server.state.requirements_lock(name, 1)
    lines = lock.read_text().splitlines() if lock.exists() else []
    return {line.split("==")[0] for line in lines if "==" in line and not line.startswith(" ")}


def test_the_example_greets_with_its_dependency_from_the_index(server: RunningServer) -> None:
    server.client.deploy(zip_package(GREETER))
    assert ask(server, "greeter", "/?name=Ada") == {"greeting": "Hello, Ada!"}
    assert installed(server, "greeter") == {"waitress"}


def test_an_agent_of_a_real_framework_serves(server: RunningServer) -> None:
    server.client.deploy(zip_package("fastapi_agent"))
    agent = server.client.agent("fastapi_agent")
    assert ask(server, "fastapi_agent", "/info") == {"pid": agent.pid, "port": agent.port}
    assert installed(server, "fastapi_agent") >= {"fastapi", "uvicorn", "pydantic"}


def test_equal_dependencies_are_not_resolved_again(server: RunningServer) -> None:
    server.client.deploy(zip_package(GREETER))
    server.client.deploy(zip_package(GREETER, replace={'version = "1.0.0"': 'version = "2.0.0"'}))
    locks = [server.state.requirements_lock("greeter", number).read_text() for number in (1, 2)]
    assert locks[0] == locks[1]
    log = server.state.install_log("greeter", 2).read_text()
    assert "pip compile" not in log


def test_a_package_without_an_entry_point_is_refused_where_no_runner_is_named(
    server: RunningServer,
) -> None:
    with pytest.raises(EntryPointMissingError) as caught:
        server.client.deploy(zip_package("atoll_like"))
    assert caught.value.document["status"] == 422
    assert "runtime_requirements" in str(caught.value.problems[0])


@pytest.fixture
def atoll_server(make_server: Callable[..., RunningServer], tmp_path: Path) -> RunningServer:
    """A server that has ATOLL's runner, as a wheel in a folder."""
    build_wheel("atoll_runtime", tmp_path / "wheels")
    return make_server(runtime_requirements=["atoll"], find_links=[str(tmp_path / "wheels")])


def test_atolls_runner_is_installed_for_packages_that_need_it_and_for_no_others(
    atoll_server: RunningServer,
) -> None:
    atoll_server.client.deploy(zip_package("atoll_like"))
    atoll_server.client.deploy(zip_package("stdlib_agent"))
    agent = atoll_server.client.agent("atoll_like")
    assert agent.status == "running"
    assert requests.get(f"{agent.url}/health", timeout=20).status_code == 200
    assert "atoll" in installed(atoll_server, "atoll_like")
    assert not atoll_server.state.requirements_lock("stdlib_agent", 1).exists()
    site = list(atoll_server.state.venv("stdlib_agent", 1).glob("lib/python*/site-packages/atoll*"))
    assert site == []


def test_a_server_without_uv_installs_the_same_with_pip(
    make_server: Callable[..., RunningServer],
) -> None:
    server = make_server(installer="pip")
    server.client.deploy(zip_package(GREETER), wait_seconds=120)
    assert ask(server, "greeter", "/?name=Ada") == {"greeting": "Hello, Ada!"}
    assert installed(server, "greeter") == {"waitress"}
    assert "-m pip" in server.state.install_log("greeter", 1).read_text()

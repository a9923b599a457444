"""Fixtures for all tests: real servers, shared where a test leaves them as it found them."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from deployer.errors import AgentUnknownError
from tests.contracts import Api, Contract
from tests.servers import RunningServer, running_server
from tests.small_disks import mounted

# A shell's job in the background ignores Ctrl-C, and so would every program that a test starts.
signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes tells of the machine, which others use too, and not of what is tested.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


@pytest.fixture(scope="session")
def installer_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that all servers of a test run share, so that each wheel is fetched once."""
    return tmp_path_factory.mktemp("installer-cache")


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A directory with a short name: the path of a Unix socket has 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="t") as name:
        yield Path(name)


@pytest.fixture(scope="session")
def shared_server(
    tmp_path_factory: pytest.TempPathFactory, installer_cache: Path
) -> Iterator[RunningServer]:
    """One server for all tests that neither stop nor break it."""
    root = tmp_path_factory.mktemp("s") / "state"
    limits = {"wrong_keys": 10_000}  # tests show more of them than anybody should
    with running_server(root, cache_dir=installer_cache, limits=limits) as it:
        yield it


@pytest.fixture
def server(shared_server: RunningServer) -> Iterator[RunningServer]:
    """The shared server; agents that a test leaves there are removed."""
    yield shared_server
    client = shared_server.client
    for agent in client.agents():
        try:
            client.remove(agent.name)
        except AgentUnknownError:
            continue


@pytest.fixture(scope="session")
def contract(shared_server: RunningServer) -> Contract:
    """The OpenAPI document of the server."""
    return Contract(shared_server.request("GET", "/openapi.json").json())


@pytest.fixture
def api(server: RunningServer, contract: Contract) -> Api:
    """The shared server's API, where each answer is held to the OpenAPI document."""
    return Api(server, contract)


@pytest.fixture(scope="session")
def open_server(
    tmp_path_factory: pytest.TempPathFactory, installer_cache: Path
) -> Iterator[RunningServer]:
    """One server that asks for no token, for tests that name their agents so as not to meet."""
    root = tmp_path_factory.mktemp("o") / "state"
    with running_server(root, cache_dir=installer_cache, auth="none") as it:
        yield it


@pytest.fixture
def small_disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A file system of 48 MB, or of what the test asks for."""
    with mounted(tmp_path / "disk", getattr(request, "param", "size=48m")) as mount:
        yield mount


@pytest.fixture
def make_server(tmp_path: Path, installer_cache: Path) -> Iterator[Callable[..., RunningServer]]:
    """A maker of servers that a test may stop, kill and break; all end with the test."""
    with ExitStack() as servers:

        def make(name: str = "state", **settings: Any) -> RunningServer:
            return servers.enter_context(
                running_server(tmp_path / name, cache_dir=installer_cache, **settings)
            )

        yield make

"""What agents write of their secrets: hidden wherever it is shown, whatever was changed since."""

from __future__ import annotations

import json
import secrets as random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from deployer.agent_logs import Bookmark
from deployer.client import Client
from tests.event_streams import listening
from tests.package_zips import zip_package
from tests.servers import RunningServer, running_server

NAME = "teller"
LOGS = f"/v1/agents/{NAME}/logs"

TELLS = """
told = f"it logs in with {os.environ.get('TOKEN')} at noon"
print(told, flush=True)
print(told, file=sys.stderr, flush=True)
serving.serve(answer)
"""


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, installer_cache: Path
) -> Iterator[RunningServer]:
    root = tmp_path_factory.mktemp("x") / "state"
    with running_server(root, cache_dir=installer_cache) as it:
        yield it


@pytest.fixture
def client(server: RunningServer) -> Iterator[Client]:
    yield server.client
    for agent in server.client.agents():
        server.client.remove(agent.name)
    for secret in server.client.secrets():
        server.client.remove_secret(secret.name)


@pytest.fixture
def token(client: Client) -> str:
    """A secret that an agent has, and told in both of its logs."""
    value = f"tok-{random.token_hex(16)}"
    client.set_secret("token", value)
    client.deploy(package())
    return value


def package(*, version: str = "1", tells: str = TELLS) -> bytes:
    manifest = (
        f'[agent]\nname = "{NAME}"\nversion = "{version}"\n[health]\n'
        '[deployment]\nstrategy = "replace"\n[env]\nTOKEN = "${secret:token}"\n'
    )
    return zip_package(
        "stdlib_agent",
        extra_files={"agent.toml": manifest},
        replace={"serving.serve(answer)": tells},
    )


def shows(text: str, value: str) -> bool:
    """Tell whether a text has more of a secret than is found in any."""
    return any(value[at : at + 4] in text for at in range(4, len(value) - 3))


# Read from any place ----------------------------------------------------------------------------


def places_in(server: RunningServer, value: str) -> Iterator[str]:
    """Give bookmarks that nobody gave out: one for each byte of a secret."""
    told = Bookmark.parse(server.request("GET", LOGS).json()["next"])
    ((number, place),) = told.positions
    at = (server.state.stdout_log(f"{NAME}--{number}").read_bytes()).index(value.encode())
    for offset in range(at, at + len(value)):
        yield str(Bookmark(((number, replace(place, offset=offset)),)))


def test_no_bookmark_shows_what_is_left_of_a_secret(server: RunningServer, token: str) -> None:
    for place in places_in(server, token):
        answer = server.request("GET", LOGS, params={"after": place})

        assert not shows(json.dumps(answer.json()["lines"]), token)
        assert "[secret token] at noon" in answer.json()["lines"][0]


def test_no_last_event_id_shows_what_is_left_of_a_secret(server: RunningServer, token: str) -> None:
    for place in [*places_in(server, token)][::8]:
        with listening(server, LOGS, after=place, patience=10, follow=1) as stream:
            told = next(event for event in stream if event.kind == "message").data

        assert not shows(told, token)
        assert "[secret token] at noon" in told

"""What agents write of their secrets: hidden wherever it is shown, whatever was changed since."""

from __future__ import annotations

import json
import secrets as random
import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import requests

from deployer.agent_logs import Bookmark
from deployer.client import Client
from deployer.errors import DeployerError
from deployer.store import Store
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


# Changed or removed since -----------------------------------------------------------------------

REMEMBERS = """
remembered = os.path.join(os.environ["ATOLL_AGENT_DATA_DIR"], "token")
if not os.path.exists(remembered):
    with open(remembered, "w") as file:
        file.write(os.environ["TOKEN"])
with open(remembered) as file:
    told = f"it logs in with {file.read()} at noon"
print(told, flush=True)
print(told, file=sys.stderr, flush=True)
"""


def everything_shown(server: RunningServer, release: int) -> str:
    """Read what tells of an agent's logs, wherever that is."""
    answers = [
        server.request("GET", f"{LOGS}?{query}")
        for query in ("stream=stdout", "stream=stderr", "after=0", "after=0&stream=stderr")
    ]
    answers += [
        server.request("GET", path)
        for path in (
            f"/agents/{NAME}/diagnostics",
            f"/v1/agents/{NAME}",
            f"/v1/agents/{NAME}/why",
            "/v1/events?limit=1000",
            "/v1/deployments",
        )
    ]
    assert {each.status_code for each in answers} == {200}
    url = f"{server.url}/supervisor/logtail/{NAME}--{release}"
    headers = {"Authorization": f"Bearer {server.token}"}
    with requests.get(url, headers=headers, stream=True, timeout=10) as log:
        chunks = log.iter_content(chunk_size=None)
        followed = b"".join(next(chunks) for _ in range(2))
    return "\n".join([*(each.text for each in answers), followed.decode()])


def test_a_value_that_was_changed_since_is_hidden_after_a_restart(
    server: RunningServer, client: Client, token: str
) -> None:
    client.set_secret("token", "another one")
    client.restart(NAME)

    shown = everything_shown(server, 1)
    assert token not in shown
    assert shown.count("[secret token]") >= 5
    assert token in server.state.stdout_log(f"{NAME}--1").read_text()


def test_a_value_that_was_changed_since_is_hidden_in_the_log_of_a_retired_release(
    server: RunningServer, client: Client, token: str
) -> None:
    client.set_secret("token", "another one")
    client.deploy(package(version="2"))

    shown = everything_shown(server, 1)
    assert token not in shown
    assert "[secret token]" in server.request("GET", f"{LOGS}?after=0").text
    assert not server.state.policy(f"{NAME}--1").exists()


def test_a_value_that_was_removed_is_hidden(
    server: RunningServer, client: Client, token: str
) -> None:
    client.deploy(package(version="2"))
    client.remove_secret("token")
    client.stop(NAME)

    for release in (1, 2):
        assert token not in everything_shown(server, release)


def test_a_former_value_is_hidden_in_what_is_kept_of_a_deployment_that_failed(
    server: RunningServer, client: Client
) -> None:
    older = f"tok-{random.token_hex(16)}"
    client.set_secret("token", older)
    client.deploy(package(tells=f"{REMEMBERS}serving.serve(answer)"))
    client.set_secret("token", "another one")
    with pytest.raises(DeployerError) as caught:
        client.deploy(package(version="2", tells=f"{REMEMBERS}sys.exit(told)"))

    assert "[secret token] at noon" in "\n".join(caught.value.evidence)
    assert older not in everything_shown(server, 1)
    kept = server.request("GET", "/v1/deployments?limit=1").text
    assert older not in kept
    assert "[secret token] at noon" in kept
    assert older.encode() not in server.state.database.read_bytes()


def test_former_values_go_with_the_last_agent_that_used_them(
    server: RunningServer, client: Client, token: str
) -> None:
    client.set_secret("token", f"{token}, another")
    with closing(Store(server.state.database)) as store:
        assert store.secrets.names_of_former() == ("token",)
        client.remove(NAME)
        assert store.secrets.names_of_former() == ()


# Restored ---------------------------------------------------------------------------------------


def test_a_backup_without_policies_and_logs_starts_agents_with_their_secrets(
    server: RunningServer, client: Client, token: str
) -> None:
    assert server.stop() == 0
    for directory in (server.state.policies, server.state.logs):
        shutil.rmtree(directory)
    server.start()

    agent = client.wait(NAME)
    given = requests.get(f"{agent.url}/info", timeout=10).json()["variables"]
    assert given["TOKEN"] == token

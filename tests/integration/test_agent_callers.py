"""Agents that call the API: with a key of their own like anybody, and never without one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from deployer.api.callers import COOKIE
from tests.package_zips import zip_package
from tests.servers import RunningServer, running_server
from tests.strangers import AGENT_UID, OTHER_UID, ask_as

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")

STOP = "/v1/agents/nobody/stop"


def code_of(answer: tuple[int, dict[str, object]]) -> tuple[int, object]:
    status, document = answer
    return status, document.get("code")


def session_of(server: RunningServer) -> str:
    """Log in, and give the value of the cookie."""
    answer = server.request("POST", "/login", data={"token": server.token}, allow_redirects=False)
    return str(answer.cookies[COOKIE])


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", STOP), ("GET", "/v1/agents"), ("GET", "/agents"), ("GET", "/docs")],
)
def test_a_server_without_keys_does_nothing_for_agents(
    open_server: RunningServer, method: str, path: str
) -> None:
    answer = ask_as(AGENT_UID, open_server, path, method)

    assert code_of(answer) == (403, "agent-caller")


def test_others_are_served_without_keys_as_before(open_server: RunningServer) -> None:
    answer = ask_as(OTHER_UID, open_server, STOP, "POST")

    assert code_of(answer) == (404, "agent-unknown")


@pytest.mark.parametrize("path", ["/livez", "/health"])
def test_what_is_open_to_everybody_is_open_to_agents(open_server: RunningServer, path: str) -> None:
    assert ask_as(AGENT_UID, open_server, path)[0] == 200


def test_an_agent_that_has_left_before_anybody_asks_is_not_obeyed(
    open_server: RunningServer,
) -> None:
    open_server.client.deploy(zip_package("stdlib_agent", name="victim"))

    for _ in range(50):
        ask_as(AGENT_UID, open_server, "/v1/agents/victim/stop", "POST", hurries=True)

    assert not [
        each
        for each in open_server.client.audit()
        if each.operation.endswith("/stop") and each.agent == "victim"
    ]
    assert open_server.client.agent("victim").status == "running"
    open_server.client.remove("victim")


def test_an_agent_is_known_at_a_unix_socket_that_is_open_to_it(
    short_path: Path, installer_cache: Path
) -> None:
    short_path.chmod(0o755)
    place = short_path / "api.sock"
    known = {"auth": "none", "host": f"unix:{place}", "socket_mode": "0666"}
    with running_server(short_path / "s", cache_dir=installer_cache, **known) as server:
        by_agent = code_of(ask_as(AGENT_UID, server, STOP, "POST"))
        by_other = code_of(ask_as(OTHER_UID, server, STOP, "POST"))

    assert (by_agent, by_other) == ((403, "agent-caller"), (404, "agent-unknown"))


def test_an_agent_with_somebody_elses_session_is_refused(shared_server: RunningServer) -> None:
    cookie = f"{COOKIE}={session_of(shared_server)}"

    by_agent = ask_as(AGENT_UID, shared_server, "/openapi.json", Cookie=cookie)
    by_browser = ask_as(OTHER_UID, shared_server, "/openapi.json", Cookie=cookie)

    assert (code_of(by_agent), by_browser[0]) == ((403, "agent-caller"), 200)


def test_an_agent_with_a_key_is_let_in(shared_server: RunningServer) -> None:
    key = shared_server.client.create_key("for an agent")

    answer = ask_as(AGENT_UID, shared_server, "/v1/agents", Authorization=f"Bearer {key.key}")

    assert answer[0] == 200


def test_an_agent_at_a_proxys_socket_is_no_proxy(short_path: Path, installer_cache: Path) -> None:
    short_path.chmod(0o755)
    known = {
        "host": f"unix:{short_path / 'api.sock'}",
        "socket_mode": "0666",
        "trusted_proxies": ["unix"],
        "client_certificates": [{"subject": "CN=ops", "scope": "admin"}],
    }
    said = {"X_SSL_Client_Verify": "SUCCESS", "X_SSL_Client_Subject": "CN=ops"}
    with running_server(short_path / "s", cache_dir=installer_cache, **known) as server:
        by_agent = code_of(ask_as(AGENT_UID, server, STOP, "POST", **said))
        by_proxy = code_of(ask_as(OTHER_UID, server, STOP, "POST", **said))

    assert (by_agent, by_proxy) == ((401, "authentication-required"), (404, "agent-unknown"))


@pytest.mark.parametrize("level", ["full", "landlock"])
def test_a_server_says_whether_it_knows_agents_when_they_call(
    make_server: Callable[..., RunningServer], level: str
) -> None:
    server = make_server(auth="none", isolation={"use": level})

    facts = server.request("GET", "/v1/server").json()["isolation"]["facts"]
    knows = next(fact["holds"] for fact in facts if fact["name"] == "callers")
    assert knows is (level == "full")
    assert ("agents can drive this API" in server.output.read_text()) is not knows
    log = (server.state.logs / "deployer.log").read_text()
    (warning,) = [line for line in log.splitlines() if "no key is asked for" in line]
    assert "WARNING" in warning
    assert ("every agent, and" in warning) is not knows

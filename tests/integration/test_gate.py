"""Who comes in, and who does not: tokens, names, and pages of somebody else's."""

from __future__ import annotations

import http.client
import json
import stat
from collections.abc import Callable
from typing import Any

import pytest
import requests

from deployer.api.callers import COOKIE
from deployer.api.gate import OPEN_PATHS
from tests.contracts import Api, Contract, problem
from tests.servers import RunningServer

PROTECTED = ["/v1/agents", "/agents", "/metrics", "/openapi.json", "/docs", "/supervisor/", "/none"]


def ask(
    server: RunningServer, path: str = "/v1/agents", method: str = "GET", **headers: str | None
) -> requests.Response:
    """Ask without a token, but with these headers; underscores stand for dashes."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return requests.request(
        method, f"{server.url}{path}", headers=named, timeout=10, allow_redirects=False
    )


def ask_raw(server: RunningServer, headers: dict[str, bytes]) -> tuple[int, dict[str, Any]]:
    """Ask with header values that a well-behaved client would not send."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.putrequest("GET", "/v1/agents", skip_host="Host" in headers)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    document: dict[str, Any] = json.loads(answer.read())
    connection.close()
    return answer.status, document


@pytest.mark.parametrize("path", sorted(OPEN_PATHS))
def test_what_tells_that_a_server_is_there_needs_no_token(
    shared_server: RunningServer, path: str
) -> None:
    assert ask(shared_server, path).status_code == 200


@pytest.mark.parametrize("path", PROTECTED)
def test_all_else_needs_a_token(
    shared_server: RunningServer, contract: Contract, path: str
) -> None:
    answer = ask(shared_server, path)
    contract.check(answer)
    problem(answer, 401, "authentication-required")
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="atoll-deployer"'


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_token_is_taken_as_a_bearer_token(shared_server: RunningServer, scheme: str) -> None:
    header = f"{scheme} {shared_server.token}"
    assert ask(shared_server, Authorization=header).status_code == 200


def test_the_token_is_taken_as_atolls_key(shared_server: RunningServer) -> None:
    assert ask(shared_server, X_API_Key=shared_server.token).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer "},
        {"Authorization": "Basic dXNlcjpwYXNzd29yZA=="},
        {"Authorization": ""},
        {"X-API-Key": "wrong"},
        {"X-API-Key": ""},
        {"Cookie": f"{COOKIE}=9999999999.{'0' * 64}"},
        {"Cookie": f"{COOKIE}=0.9999999999.{'0' * 64}"},
        {"Cookie": f"{COOKIE}=."},
    ],
)
def test_a_wrong_token_is_none(shared_server: RunningServer, headers: dict[str, str]) -> None:
    problem(ask(shared_server, **headers), 401, "authentication-required")


def test_a_part_of_the_token_is_none(shared_server: RunningServer) -> None:
    header = f"Bearer {shared_server.token[:-1]}"
    problem(ask(shared_server, Authorization=header), 401, "authentication-required")


@pytest.mark.parametrize("name", ["Authorization", "X-API-Key", "Cookie"])
@pytest.mark.parametrize(
    "value", ["tökén".encode(), "tökén".encode("latin-1"), b"\xff\xfe", b"\x80" * 100]
)
def test_a_token_beyond_ascii_is_wrong_and_no_fault_of_ours(
    shared_server: RunningServer, name: str, value: bytes
) -> None:
    prefix = {"Authorization": b"Bearer ", "Cookie": f"{COOKIE}=1.".encode()}.get(name, b"")
    status, document = ask_raw(shared_server, {name: prefix + value})
    assert (status, document["code"]) == (401, "authentication-required")


def test_no_answer_and_no_log_repeats_a_wrong_token(shared_server: RunningServer) -> None:
    answer = ask(shared_server, Authorization="Bearer nearly-the-token")
    assert "nearly-the-token" not in answer.text
    assert "nearly-the-token" not in (shared_server.state.logs / "deployer.log").read_text()


def test_only_the_server_itself_can_read_its_token(shared_server: RunningServer) -> None:
    assert stat.S_IMODE(shared_server.state.token.stat().st_mode) == 0o600
    assert len(shared_server.token) >= 43  # 32 random bytes


def test_the_token_stays_when_the_server_starts_again(
    make_server: Callable[..., RunningServer],
) -> None:
    server = make_server()
    before = server.token
    server.stop()
    server.start()
    assert server.token == before
    assert ask(server, Authorization=f"Bearer {before}").status_code == 200


# Other people's pages -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://["},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": ""},
        {"Origin": "https://evil@127.0.0.1"},
        {"Origin": "http://127.0.0.1.evil.example"},
        {"Origin": "http://localhost"},
        {"Origin": "http://[::1]"},
        {"Origin": "file://"},
        {"Referer": "https://evil.example/form"},
    ],
)
@pytest.mark.parametrize("auth", ["token", "none"])
def test_another_sites_page_changes_nothing(
    request: pytest.FixtureRequest, headers: dict[str, str], auth: str
) -> None:
    server: RunningServer = request.getfixturevalue(
        "shared_server" if auth == "token" else "open_server"
    )
    answer = server.request("POST", "/v1/agents/nobody/stop", headers=headers)
    problem(answer, 403, "forbidden")


@pytest.mark.parametrize("route", ["/v1/packages", "/v1/deployments", "/deploy", "/login"])
@pytest.mark.parametrize("origin", ["https://evil.example", "null"])
def test_another_sites_form_uploads_nothing(
    open_server: RunningServer, route: str, origin: str
) -> None:
    """Such a form needs no leave: multipart is what forms send (Fetch, 'simple' requests)."""
    form = {"file": ("package.zip", b"x", "application/zip")}
    answer = open_server.request("POST", route, files=form, headers={"Origin": origin})
    problem(answer, 403, "forbidden")


@pytest.mark.parametrize("path", ["/v1/agents", "/agents", "/v1/agents/x/wait", "/supervisor/"])
def test_without_tokens_another_sites_page_fetches_nothing(
    open_server: RunningServer, path: str
) -> None:
    for site in ("cross-site", "same-site"):
        headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "no-cors"}
        problem(open_server.request("GET", path, headers=headers), 403, "forbidden")


def test_without_tokens_a_link_from_another_site_may_be_followed(
    open_server: RunningServer,
) -> None:
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert open_server.request("GET", "/docs", headers=headers).status_code == 200


@pytest.mark.parametrize("auth", ["token", "none"])
def test_no_other_site_is_given_leave_to_read(request: pytest.FixtureRequest, auth: str) -> None:
    server: RunningServer = request.getfixturevalue(
        "shared_server" if auth == "token" else "open_server"
    )
    asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    for method in ("OPTIONS", "GET"):
        answer = server.request(method, "/v1/agents", headers=asked)
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]


@pytest.mark.parametrize("site", ["same-origin", "none"])
def test_a_page_of_this_very_server_is_let_in(open_server: RunningServer, site: str) -> None:
    headers = {"Sec-Fetch-Site": site, "Origin": open_server.url}
    answer = open_server.request("POST", "/v1/agents/nobody/stop", headers=headers)
    problem(answer, 404, "agent-unknown")


FOREIGN_HOSTS = [
    "evil.example",
    "evil.example:8080",
    "192.0.2.1",
    "0.0.0.0",
    "[::]",
    "[2001:db8::1]:8080",
    "localhost.x",
    "localhost.",
    "127.0.0.1.",
    "127.0.0.1.evil.example",
    "127.1",
    "2130706433",
    "0x7f.0.0.1",
    "0177.0.0.1",
]


@pytest.mark.parametrize("host", FOREIGN_HOSTS)
def test_without_tokens_a_foreign_name_is_refused(open_server: RunningServer, host: str) -> None:
    """Such is the name of a page that rebound its own to this machine's address."""
    problem(ask(open_server, Host=host), 403, "forbidden")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1", "127.9.9.9", "[::1]:80"])
def test_without_tokens_this_machines_own_names_are_answered(
    open_server: RunningServer, host: str
) -> None:
    assert ask(open_server, Host=host).status_code == 200


def test_with_a_token_any_name_is_answered(shared_server: RunningServer) -> None:
    answer = shared_server.request("GET", "/v1/agents", headers={"Host": "deploy.example"})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "host", ["a b", "127.0.0.1:port", "[::1]:port", "[::1", 'x"><script>', "a:1:2", "x" * 300]
)
def test_a_host_header_that_names_no_host_is_refused(api: Api, host: str) -> None:
    problem(api.get("/v1/agents", headers={"Host": host}), 400, "bad-request")


# Names of requests --------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/livez", "/v1/agents", "/none", "/v1/agents/none"])
def test_every_answer_names_its_request(shared_server: RunningServer, path: str) -> None:
    first, second = (ask(shared_server, path).headers["X-Request-Id"] for _ in range(2))
    assert first != second


def test_a_request_keeps_the_name_that_its_client_gave(shared_server: RunningServer) -> None:
    answer = ask(shared_server, X_Request_Id="build-17.3")
    assert answer.headers["X-Request-Id"] == "build-17.3"
    assert answer.json()["request_id"] == "build-17.3"


@pytest.mark.parametrize("name", ["a b", "x" * 65, "<script>", ""])
def test_a_name_that_could_harm_a_log_is_replaced(shared_server: RunningServer, name: str) -> None:
    answer = ask(shared_server, X_Request_Id=name)
    assert answer.headers["X-Request-Id"] != name

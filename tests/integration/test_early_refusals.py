"""Large bodies from those who may not send any: refused on their head, before they are sent."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from tests.contracts import ZIP, Api, problem
from tests.servers import RunningServer

LARGE = 64 * 1024 * 1024


def head(server: RunningServer, path: str, *lines: str, length: int | None = LARGE) -> bytes:
    size = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    given = [f"POST {path} HTTP/1.1", f"Host: 127.0.0.1:{server.port}", size, *lines]
    return "\r\n".join([*given, "", ""]).encode()


def answer_to(server: RunningServer, sent: bytes) -> tuple[str, dict[str, str], dict[str, Any]]:
    """Send a head and no more, and give what comes back, to its end."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        client.sendall(sent)
        received = b""
        while chunk := client.recv(65536):
            received += chunk
    top, _, body = received.partition(b"\r\n\r\n")
    status, *headers = top.decode().split("\r\n")
    named = (line.split(": ", 1) for line in headers)
    return status, {name.lower(): value for name, value in named}, json.loads(body)


@pytest.fixture(scope="module")
def reader(shared_server: RunningServer) -> Iterator[str]:
    """A key that may only look."""
    key = shared_server.client.create_key("reader")
    yield key.key
    shared_server.client.revoke_key(key.id)


@pytest.mark.parametrize("path", ["/v1/packages", "/none"])
@pytest.mark.parametrize("length", [LARGE, None])
@pytest.mark.parametrize(
    "shown", ["", "Authorization: Bearer wrong", "Cookie: atoll_session=0.9.0", "X_API_Key: x"]
)
def test_without_a_key_a_large_body_is_refused_before_it_is_sent(
    shared_server: RunningServer, path: str, length: int | None, shown: str
) -> None:
    lines = [shown] if shown else []
    sent = head(shared_server, path, "Expect: 100-continue", *lines, length=length)
    status, headers, document = answer_to(shared_server, sent)
    assert status.startswith("HTTP/1.1 401 ")
    assert document["code"] == "authentication-required"
    assert document["request_id"] == headers["x-request-id"]
    assert headers["www-authenticate"].startswith("Bearer")


def test_a_key_that_may_not_deploy_sends_no_large_body(
    shared_server: RunningServer, reader: str
) -> None:
    sent = head(shared_server, "/v1/packages", f"Authorization: Bearer {reader}")
    status, _, document = answer_to(shared_server, sent)
    assert (status.split()[1], document["code"]) == ("403", "scope-missing")


def test_a_body_of_unknown_size_may_be_a_small_one(
    shared_server: RunningServer, reader: str
) -> None:
    answer = requests.post(
        f"{shared_server.url}/check?checksum={'0' * 32}",
        data=iter([b"x"]),  # sent in chunks
        headers={"Authorization": f"Bearer {reader}"},
        timeout=10,
    )
    assert answer.json()["exists"] is False


def chunked(server: RunningServer, key: str) -> requests.Response:
    """Send a body of 1 MB whose size is not told."""
    return requests.post(
        f"{server.url}/v1/packages",
        data=(bytes(16 * 1024) for _ in range(64)),
        headers={**ZIP, "Authorization": f"Bearer {key}"},
        timeout=20,
    )


def test_a_body_of_unknown_size_is_refused_once_it_is_large(
    shared_server: RunningServer, reader: str
) -> None:
    lines = [f"Authorization: Bearer {reader}"]
    sent = head(shared_server, "/v1/packages", *lines, length=None)
    status, _, document = answer_to(shared_server, sent + b"100000\r\n" + bytes(65 * 1024))
    assert (status.split()[1], document["code"]) == ("403", "scope-missing")

    problem(chunked(shared_server, reader), 403, "scope-missing")


def test_a_key_that_may_deploy_sends_a_large_body_of_unknown_size(
    shared_server: RunningServer,
) -> None:
    key = shared_server.client.create_key("chunks", scope="deploy")
    answer = chunked(shared_server, key.key)
    shared_server.client.revoke_key(key.id)

    problem(answer, 422, "package-invalid")


def test_the_audit_says_whose_key_it_was(shared_server: RunningServer) -> None:
    key = shared_server.client.create_key("small")
    sent = head(shared_server, "/v1/packages", f"Authorization: Bearer {key.key}")
    answer_to(shared_server, sent)
    shared_server.client.revoke_key(key.id)

    entries = [each for each in shared_server.client.audit() if each.who == f"key:{key.id}"]
    assert [(each.status, each.name) for each in entries] == [(403, "small")]


@pytest.mark.parametrize("path", ["/login", "/livez", "/health"])
def test_what_is_open_to_everybody_takes_no_large_body(
    shared_server: RunningServer, path: str
) -> None:
    status, _, document = answer_to(shared_server, head(shared_server, path))
    assert (status.split()[1], document["code"]) == ("413", "package-too-large")


def test_whoever_sends_all_of_it_at_once_gets_the_answer_and_no_reset(
    shared_server: RunningServer,
) -> None:
    for _ in range(3):
        answer = requests.post(
            f"{shared_server.url}/v1/packages",
            data=b"x" * 8_000_000,
            headers={**ZIP, "Authorization": "Bearer wrong"},
            timeout=20,
        )
        problem(answer, 401, "authentication-required")


def test_a_body_is_never_read_as_another_request(api: Api) -> None:
    """What follows the refused head would be an act of whoever holds the key in it."""
    before = api.get("/v1/audit", params={"limit": 1}).json()["entries"][0]["id"]
    hidden = (
        f"POST /v1/agents/smuggled/stop HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Authorization: Bearer {api.server.token}\r\nContent-Length: 0\r\n\r\n"
    ).encode()
    for pause_seconds in (0, 0.2):
        with socket.create_connection(("127.0.0.1", api.server.port), timeout=10) as client:
            client.sendall(head(api.server, "/v1/packages"))
            time.sleep(pause_seconds)  # in one piece with the head, and as a piece of its own
            client.sendall(hidden)
            received = b""
            while chunk := client.recv(65536):
                received += chunk
        assert received.count(b"HTTP/1.1 ") == 1
    listed = api.get("/v1/audit", params={"limit": 100}).json()["entries"]
    new = [entry for entry in listed if entry["id"] > before]
    assert not [entry for entry in new if entry["agent"] == "smuggled"]


def send_on(client: socket.socket, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        client.sendall(b"x" * 1000)
        time.sleep(0.02)


def test_who_goes_on_sending_is_hung_up_on(shared_server: RunningServer) -> None:
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", shared_server.port), timeout=10) as client:
        client.sendall(head(shared_server, "/v1/packages"))
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            send_on(client, 20)
    assert time.monotonic() - began < 12


def test_the_audit_counts_them(api: Api) -> None:
    last = api.get("/v1/audit", params={"limit": 1}).json()["entries"][0]["id"]
    for _ in range(2):
        answer_to(api.server, head(api.server, "/v1/packages"))
    listed = api.get("/v1/audit", params={"limit": 100}).json()["entries"]
    new = [entry for entry in listed if entry["id"] > last and entry["status"] == 401]
    assert sum(entry["times"] for entry in new) == 2


def test_the_right_key_sends_large_bodies(api: Api) -> None:
    answer = api.post("/v1/packages", data=b"x" * 8_000_000, headers=ZIP)
    problem(answer, 422, "package-invalid")

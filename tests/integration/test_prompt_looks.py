"""Looks that the reading thread answers itself: as fresh, guarded and patient as others."""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Iterator

import requests

from tests.package_zips import zip_package
from tests.servers import RunningServer

NAME = "prompt"


def look(server: RunningServer, key: str, path: str = "/agents", method: str = "GET") -> bytes:
    return (
        f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
        f"Authorization: Bearer {key}\r\nContent-Length: 0\r\n\r\n"
    ).encode()


@contextlib.contextmanager
def connection(server: RunningServer) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as client:
        yield client


def read_answers(client: socket.socket, count: int) -> list[bytes]:
    """Read so many answers off a connection, each with its head."""
    data, answers = b"", []
    while len(answers) < count:
        found = re.search(rb"(?i)\r\ncontent-length: *(\d+)", data.partition(b"\r\n\r\n")[0])
        end = data.index(b"\r\n\r\n") + 4 + int(found[1]) if found else len(data) + 1
        if len(data) >= end:
            answers.append(data[:end])
            data = data[end:]
            continue
        block = client.recv(262144)
        assert block, data
        data += block
    return answers


def ask(client: socket.socket, request: bytes) -> bytes:
    client.sendall(request)
    (answer,) = read_answers(client, 1)
    return answer


def test_looks_sent_at_once_are_all_answered_in_their_order(shared_server: RunningServer) -> None:
    paths = ("/livez", "/agents", "/v1/agents", "/agents", "/health") * 20
    with connection(shared_server) as client:
        client.sendall(b"".join(look(shared_server, shared_server.token, path) for path in paths))
        answers = read_answers(client, len(paths))
    assert all(answer.startswith(b"HTTP/1.1 200") for answer in answers)
    alike = {
        path: {answer.partition(b"\r\n\r\n")[2][:12] for answer in answers[at::5]}
        for at, path in enumerate(paths[:5])
    }
    assert {len(bodies) for bodies in alike.values()} == {1}
    assert alike["/livez"] != alike["/health"] != alike["/agents"]


def test_a_key_is_refused_on_an_open_connection_as_soon_as_it_is_revoked(
    shared_server: RunningServer,
) -> None:
    made = shared_server.request("POST", "/v1/keys", json={"name": "short", "scope": "read"}).json()
    with connection(shared_server) as client:
        request = look(shared_server, made["key"])
        before = [ask(client, request)[:12] for _ in range(3)]
        shared_server.request("DELETE", f"/v1/keys/{made['id']}")
        after = ask(client, request)[:12]
    assert (set(before), after) == ({b"HTTP/1.1 200"}, b"HTTP/1.1 401")


def test_a_list_shows_an_act_that_was_answered(shared_server: RunningServer) -> None:
    package = zip_package("stdlib_agent", name=NAME)
    shared_server.client.deploy(package)
    checksum = shared_server.client.agent(NAME).checksum
    with connection(shared_server) as client:
        check = look(shared_server, shared_server.token, f"/check?checksum={checksum}", "POST")
        listed = look(shared_server, shared_server.token)
        for act, word in (("stop", b"stopped"), ("start", b"running")) * 3:
            shared_server.request("POST", f"/v1/agents/{NAME}/{act}?wait=30")
            assert b'"status":"' + word in ask(client, check)
            assert word in ask(client, listed).partition(NAME.encode())[2][:40]
        shared_server.client.remove(NAME)
        assert b'"exists":false' in ask(client, check)
        assert NAME.encode() not in ask(client, listed)


def test_whoever_takes_no_answers_keeps_nobody_waiting(shared_server: RunningServer) -> None:
    with connection(shared_server) as greedy:
        greedy.setblocking(False)  # noqa: FBT003 - of the socket's
        request = look(shared_server, shared_server.token) * 1000
        with contextlib.suppress(BlockingIOError):
            for _ in range(20):
                greedy.send(request)
        assert requests.get(f"{shared_server.url}/livez", timeout=20).status_code == 200

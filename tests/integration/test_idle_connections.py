"""Connections that ask nothing, or for ever, or take no answer: they keep nobody else out."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from waitress import wasyncore
from waitress.server import create_server

from deployer.api import channels
from deployer.api.connections import AHEAD_BYTES
from deployer.api.web_listeners import THREADS
from tests.servers import RunningServer, wait_until
from tests.strangers import OTHER_UID, ask_as

MANY = 700
STYLE = b"GET /-/assets/page.css HTTP/1.1\r\nHost: localhost\r\n\r\n"
LIVE = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"


@contextlib.contextmanager
def idle(server: RunningServer, sent: bytes = b"") -> Iterator[list[socket.socket]]:
    """Have many connections on which no whole request is sent."""
    with ExitStack() as opened:
        clients = []
        for _ in range(MANY):
            client = opened.enter_context(
                socket.create_connection(("127.0.0.1", server.port), timeout=10)
            )
            client.sendall(sent)
            clients.append(client)
        yield clients


@pytest.mark.parametrize("sent", [b"", b"GET /livez HTTP/1.1\r\nX-Slow: "])
def test_many_that_say_nothing_keep_nobody_waiting(
    shared_server: RunningServer, sent: bytes
) -> None:
    with idle(shared_server, sent):
        began = time.monotonic()
        status = requests.get(f"{shared_server.url}/livez", timeout=20).status_code
        seconds = time.monotonic() - began

    assert status == 200
    assert seconds < 8  # behind them it would wait until they are closed, after 10 s


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_somebody_else_is_let_in_and_keeps_a_connection(shared_server: RunningServer) -> None:
    with requests.Session() as session:
        session.get(f"{shared_server.url}/livez", timeout=10)
        with idle(shared_server):
            status, _ = ask_as(OTHER_UID, shared_server, "/livez")

    assert status == 200


def test_a_connection_that_sends_no_whole_head_is_closed(shared_server: RunningServer) -> None:
    with socket.create_connection(("127.0.0.1", shared_server.port), timeout=30) as client:

        def is_closed() -> bool:
            with contextlib.suppress(TimeoutError):
                client.settimeout(0.2)
                return client.recv(1) == b""
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                client.send(b"x")
                return False
            return True

        client.sendall(b"GET /livez HTTP/1.1\r\nX-Slow: ")
        began = time.monotonic()
        wait_until(is_closed, 25)

    assert time.monotonic() - began < 20


def test_a_connection_that_asked_before_may_rest_for_longer(shared_server: RunningServer) -> None:
    ask = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with socket.create_connection(("127.0.0.1", shared_server.port), timeout=10) as client:
        client.sendall(ask)
        assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
        time.sleep(13)  # beyond what a head may take: that it stays is what is shown

        client.sendall(ask)

        assert client.recv(65536).startswith(b"HTTP/1.1 200 ")


def unread(port: int, sent: bytes) -> socket.socket:
    """Send requests, and have little room for their answers."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    client.settimeout(20)
    client.connect(("127.0.0.1", port))
    client.sendall(sent)
    return client


def read_all(client: socket.socket) -> bytes:
    received = b""
    while chunk := client.recv(65536):
        received += chunk
    return received


def test_many_that_take_no_answer_keep_nobody_waiting(shared_server: RunningServer) -> None:
    """With a thread for each of them, all would wait until they read."""
    key = {"Authorization": f"Bearer {shared_server.token}"}
    large = f"GET /openapi.json HTTP/1.1\r\nAuthorization: {key['Authorization']}\r\n\r\n".encode()
    sent = large * (AHEAD_BYTES // len(large))
    with ExitStack() as opened:
        for _ in range(THREADS + 8):
            client = opened.enter_context(unread(shared_server.port, sent))
            assert select.select([client], [], [], 20)[0]
        began = time.monotonic()
        while time.monotonic() - began < 5:  # by then what they are sent would fill all buffers
            answer = requests.get(f"{shared_server.url}/v1/agents", headers=key, timeout=20)
            assert answer.status_code == 200


def test_requests_that_are_sent_at_once_are_answered_in_turn(shared_server: RunningServer) -> None:
    other = STYLE.replace(b"page.css", b"none.css")
    last = LIVE.replace(b"Host", b"Connection: close\r\nHost")
    with socket.create_connection(("127.0.0.1", shared_server.port), timeout=20) as client:
        client.sendall(LIVE + STYLE + b"\r\n" * 1000 + other + LIVE + other[:20])
        time.sleep(0.2)  # so that the rest is a piece of its own
        client.sendall(other[20:] + last)
        received = read_all(client)

    statuses = [part[:3] for part in received.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [b"200", b"200", b"404", b"200", b"404", b"200"]


def test_whoever_sends_more_than_that_ahead_is_refused(shared_server: RunningServer) -> None:
    sent = STYLE * (3 * AHEAD_BYTES // len(STYLE))
    with socket.create_connection(("127.0.0.1", shared_server.port), timeout=20) as client:
        client.sendall(sent)
        with contextlib.suppress(ConnectionResetError):
            assert read_all(client).count(b"HTTP/1.1 ") <= 2  # one if it came in one piece


Start = Callable[[bytes], Any]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Listens as the server does, but in this process and with a short limit; gives one answer."""
    monkeypatch.setattr(channels, "STUCK_SECONDS", 3.0)
    started = []

    def listen(answer: bytes) -> Any:
        def app(_: Any, start_response: Any) -> list[bytes]:
            start_response("200 OK", [("Content-Length", str(len(answer)))])
            return [answer]

        listener: Any = create_server(app, host="127.0.0.1", port=0, asyncore_use_poll=True)
        nobody: Any = SimpleNamespace(judge=lambda _: None)
        channels.refuse_with_problems(listener, 1, nobody, nobody, nobody)
        thread = threading.Thread(target=listener.run)
        thread.start()
        started.append((listener, thread))
        return listener

    yield listen
    for listener, thread in started:
        listener.task_dispatcher.shutdown()
        wasyncore.close_all(listener._map)
        thread.join(20)


def test_whoever_takes_nothing_for_long_is_hung_up_on(start: Start) -> None:
    listener = start(b"x" * 100_000)
    with ExitStack() as opened:
        for _ in range(10):
            opened.enter_context(unread(int(listener.effective_port), STYLE * 200))
        wait_until(lambda: len(listener.active_channels) == 10)

        wait_until(lambda: not listener.active_channels)


def test_whoever_takes_a_little_all_the_time_gets_all_of_it(start: Start) -> None:
    size = 6_000_000
    listener = start(b"x" * size)
    with unread(int(listener.effective_port), STYLE) as client:
        began, received = time.monotonic(), 0
        while received < size and (chunk := client.recv(65536)):
            received += len(chunk)
            if time.monotonic() - began < 6:  # well beyond the limit
                time.sleep(0.1)

    assert received >= size  # and a head

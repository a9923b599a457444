"""Connections that ask nothing, or for ever: whoever opens them keeps nobody else out."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import requests

from tests.servers import RunningServer, wait_until
from tests.strangers import OTHER_UID, ask_as

MANY = 700


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

"""A client that asks as fast as it is answered: keep-alive connections, one thread, no library."""

from __future__ import annotations

import contextlib
import re
import selectors
import socket
import time
from dataclasses import dataclass

_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_HEAD_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Load:
    """What came of asking for a while.

    Attributes:
        rate: Answers per second.
        p50: Half of the answers took at most so many seconds.
        p99: All but one of a hundred did.
    """

    rate: float
    p50: float
    p99: float


def ask(port: int, request: bytes, *, seconds: float, connections: int = 4) -> Load:
    """Send the same request again and again, on each connection as soon as it was answered.

    Args:
        port: Of this machine.
        request: Head and body.
        seconds: How long.
        connections: How many at once.
    """
    times: list[float] = []
    with contextlib.ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        for _ in range(connections):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            selector.register(client, selectors.EVENT_READ, _Exchange(client, request))
        began = time.perf_counter()
        for key in selector.get_map().values():
            key.data.send()
        while time.perf_counter() - began < seconds:
            for key, _ in selector.select(timeout=10):
                if key.data.receive():
                    times.append(key.data.seconds)
                    key.data.send()
        elapsed = time.perf_counter() - began
    times.sort()
    return Load(len(times) / elapsed, times[len(times) // 2], times[len(times) * 99 // 100])


class _Exchange:
    """One connection with its request under way."""

    def __init__(self, client: socket.socket, request: bytes) -> None:
        self._client = client
        self._request = request
        self._answer = b""
        self._sent_at = 0.0
        self.seconds = 0.0

    def send(self) -> None:
        self._answer = b""
        self._sent_at = time.perf_counter()
        self._client.sendall(self._request)

    def receive(self) -> bool:
        """Take what has arrived; tell whether the answer is whole."""
        block = self._client.recv(262144)
        assert block, "the server has closed the connection"
        self._answer += block
        head, _, body = self._answer.partition(_HEAD_END)
        length = _LENGTH.search(head)
        if length is None or len(body) < int(length[1]):
            return False
        assert b" 200 " in head.partition(b"\r\n")[0], head
        self.seconds = time.perf_counter() - self._sent_at
        return True

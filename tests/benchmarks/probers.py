"""Somebody who asks the same small question again and again while the server is busy."""

from __future__ import annotations

import contextlib
import http.client
import threading
import time
from collections.abc import Iterator

from tests.servers import RunningServer

PAUSE_SECONDS = 0.02


@contextlib.contextmanager
def probing(server: RunningServer, path: str) -> Iterator[list[float]]:
    """Ask while the block runs, from the first moment at which somebody listens.

    Yields:
        The seconds that each answer took; it grows.
    """
    waits: list[float] = []
    is_over = threading.Event()
    prober = threading.Thread(target=_ask, args=(server, path, waits, is_over))
    prober.start()
    try:
        yield waits
    finally:
        is_over.set()
        prober.join()


def _ask(server: RunningServer, path: str, waits: list[float], is_over: threading.Event) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    headers = {"Authorization": f"Bearer {server.token}"}
    with contextlib.closing(connection):
        while not is_over.wait(PAUSE_SECONDS):
            began = time.perf_counter()
            try:
                connection.request("GET", path, headers=headers)
                answer = connection.getresponse()
                answer.read()
            except OSError:
                connection.close()
                if waits:
                    waits.append(time.perf_counter() - began)  # it was there: this counts
                continue
            waits.append(time.perf_counter() - began)
            assert answer.status == 200, answer.status

"""Asking a release whether it serves, once or until it does."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from deployer.model import Answer, HealthCheck

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_NOT_READY: Final = http.client.SERVICE_UNAVAILABLE
_BODY_BYTES: Final = 64 * 1024
_SHORTEST_PAUSE_SECONDS: Final = 0.002
_LONGEST_PAUSE_SECONDS: Final = 0.25
_PAUSES_SO_FAR: Final = 20
_PATH_CHARACTERS: Final = "%/:?&=~#+!$,;@()*'[]"
"""What a path keeps as its author wrote it; the rest is percent-encoded, so none is refused."""


def check(host: str, port: int, question: HealthCheck) -> Answer:
    """Ask a release once how it is.

    Proxies are not used and redirects not followed: the question is for this port alone. The
    timeout is for everything together, so a server that drips bytes does not stretch it. Costs
    about 0.2 ms of CPU when all is well and 0.02 ms when nobody listens.

    Args:
        host: The numeric address to ask; a wildcard address reaches this machine.
        port: A TCP port number.
        question: What to ask and how long to wait; of its fields path and timeout_seconds count.

    Returns:
        Healthy when the port accepts a connection (no path), or on HTTP 2xx and 3xx. A JSON object
        whose ``status`` is ``degraded`` is healthy, but degraded. HTTP 503 is not healthy, but
        degraded: it answers, so it lives, and says that it is not ready. The detail is ``HTTP 200``
        or the like, ``accepts connections``, ``refused``, ``timed out after 5 s``, ``not HTTP``,
        ``closed without an answer``, or the operating system's words in lower case.
    """
    started_at = time.monotonic()
    timeout_seconds = question.timeout_seconds
    healthy, degraded = False, False
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with _DeadlineSocket(family, started_at + timeout_seconds) as connection:
            connection.connect_in_time((host, port))
            if question.path is None:
                healthy, detail = True, "accepts connections"
            else:
                status, says_degraded = _get(connection, host, port, question.path)
                healthy = http.client.OK <= status < http.client.BAD_REQUEST
                degraded = (healthy and says_degraded) or status == _NOT_READY
                detail = f"HTTP {status}"
    except TimeoutError:
        detail = f"timed out after {timeout_seconds:g} s"
    except ConnectionRefusedError:
        detail = "refused"
    except (ConnectionResetError, BrokenPipeError, http.client.IncompleteRead):
        detail = "closed without an answer"
    except (http.client.HTTPException, ValueError):  # ValueError: a chunk of -5 bytes, for one
        detail = "not HTTP"
    except OSError as error:
        detail = (error.strerror or str(error)).lower()
    return Answer(healthy, detail, time.monotonic() - started_at, degraded)


def _get(connection: socket.socket, host: str, port: int, path: str) -> tuple[int, bool]:
    """Send one GET request and give the status, and whether a JSON body says degraded."""
    client = http.client.HTTPConnection(host, port)
    client.sock = connection
    client.request(
        "GET",
        quote(path, safe=_PATH_CHARACTERS),
        headers={"Accept": "application/json, */*;q=0.5", "Connection": "close"},
    )
    with client.getresponse() as response:
        # A page may be endless, an event stream for one; only JSON can say what we look for.
        if "json" not in response.headers.get("Content-Type", "json").lower():
            return response.status, False
        body = response.read(_BODY_BYTES)
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):  # no JSON, or nested to exhaust us
        return response.status, False
    return response.status, isinstance(document, dict) and document.get("status") == "degraded"


class _DeadlineSocket(socket.socket):
    """A socket whose timeout is one moment for all its calls together, not a span for each."""

    def __init__(self, family: socket.AddressFamily, deadline: float) -> None:
        super().__init__(family, socket.SOCK_STREAM)
        self._deadline = deadline

    def _set_remaining(self) -> None:
        remaining = self._deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError
        self.settimeout(remaining)

    def connect_in_time(self, address: tuple[str, int]) -> None:
        """Connect within the deadline, and to somebody else.

        TCP lets a socket connect to itself when the kernel happens to pick the asked port as the
        source port, which polling an unused port of the ephemeral range meets sooner or later.
        """
        self._set_remaining()
        self.connect(address)
        if self.getsockname() == self.getpeername():
            raise ConnectionRefusedError

    def recv_into(self, buffer: WriteableBuffer, nbytes: int = 0, flags: int = 0) -> int:
        """Read within the deadline; `makefile`, and so `http.client`, reads through here."""
        self._set_remaining()
        return super().recv_into(buffer, nbytes, flags)


def wait_until_healthy(
    ask: Callable[[], Answer],
    *,
    still_alive: Callable[[], bool],
    deadline: float,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Answer:
    """Ask until the answer is good, the process is gone, or time is up.

    Between two questions passes a twentieth of the time waited so far, from 2 to 250 ms: a start of
    60 ms is noticed within 3 ms, one of a minute within a quarter of a second. Each good answer is
    believed only from a process that still lives: a stranger may answer on a dead agent's port.

    Args:
        ask: Puts the question once; it may take its own timeout.
        still_alive: Tells whether the process that was asked still lives.
        deadline: When to give up, on the same clock; it is asked once at least.
        sleep: Waits for so many seconds.
        clock: Monotonic seconds.

    Returns:
        The last answer: healthy, or else not, and then the caller knows whether the process lives.
    """
    started_at = clock()
    while True:
        answer = ask()
        if not still_alive():
            return replace(answer, healthy=False, degraded=False)
        now = clock()
        if answer.healthy or now >= deadline:
            return answer
        pause = max((now - started_at) / _PAUSES_SO_FAR, _SHORTEST_PAUSE_SECONDS)
        sleep(min(pause, _LONGEST_PAUSE_SECONDS, deadline - now))

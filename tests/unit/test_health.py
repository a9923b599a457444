from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from deployer.health import check, wait_until_healthy
from deployer.model import Answer, HealthCheck

HTTP = HealthCheck(path="/health", timeout_seconds=5)
HASTY = HealthCheck(path="/health", timeout_seconds=0.3)
TCP = HealthCheck(path=None, timeout_seconds=10)


@contextmanager
def server(talk: Callable[[socket.socket, bytes], None]) -> Iterator[int]:
    """Serve one connection after the other: talk gets it, with the request that came."""
    over = threading.Event()

    def run(listener: socket.socket) -> None:
        while not over.is_set():
            connection, _ = listener.accept()
            with connection, suppress(OSError):
                connection.settimeout(5)
                talk(connection, connection.recv(65536))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        thread = threading.Thread(target=run, args=[listener])
        thread.start()
        try:
            yield port
        finally:
            over.set()
            socket.create_connection(("127.0.0.1", port)).close()
            thread.join(timeout=10)
            assert not thread.is_alive()


def saying(
    status: str, body: bytes = b"", content_type: str = "application/json"
) -> Callable[[socket.socket, bytes], None]:
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    )

    def talk(connection: socket.socket, _request: bytes) -> None:
        connection.sendall(head.encode() + body)

    return talk


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@pytest.mark.parametrize("status", ["200 OK", "204 No Content", "301 Moved", "399 Odd"])
def test_2xx_and_3xx_are_healthy(status: str) -> None:
    with server(saying(status)) as port:
        answer = check("127.0.0.1", port, HTTP)

    assert answer.healthy
    assert answer.detail == f"HTTP {status[:3]}"
    assert not answer.degraded


@pytest.mark.parametrize("status", ["400 Bad", "404 Not Found", "500 Oops", "503 Later"])
def test_4xx_and_5xx_are_not_healthy_and_told_by_number(status: str) -> None:
    with server(saying(status)) as port:
        answer = check("127.0.0.1", port, HTTP)

    assert not answer.healthy
    assert answer.detail == f"HTTP {status[:3]}"


def test_a_redirect_is_not_followed() -> None:
    asked: list[bytes] = []

    def talk(connection: socket.socket, request: bytes) -> None:
        asked.append(request)
        connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: /else\r\nContent-Length: 0\r\n\r\n")

    with server(talk) as port:
        check("127.0.0.1", port, HTTP)

    assert [request.split(b" ")[1] for request in asked if request] == [b"/health"]


def test_a_body_that_says_degraded_is_healthy_but_degraded() -> None:
    with server(saying("200 OK", b'{"status": "degraded", "why": "no model"}')) as port:
        answer = check("127.0.0.1", port, HTTP)

    assert answer.healthy
    assert answer.degraded


def test_an_error_that_says_degraded_is_not_healthy_and_not_degraded() -> None:
    with server(saying("500 Broken", b'{"status": "degraded"}')) as port:
        answer = check("127.0.0.1", port, HTTP)

    assert not answer.healthy
    assert not answer.degraded


def test_not_ready_is_not_healthy_but_alive() -> None:
    with server(saying("503 Later", b"")) as port:
        answer = check("127.0.0.1", port, HTTP)

    assert not answer.healthy
    assert answer.degraded


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"degraded", b'{"status": ["degraded"]}', b"[" * 65536, b"\xff\xfe{"]
)
def test_a_body_of_any_other_kind_changes_nothing(body: bytes) -> None:
    with server(saying("200 OK", body)) as port:
        answer = check("127.0.0.1", port, HTTP)

    assert answer.healthy
    assert not answer.degraded


def test_what_stands_beyond_64_kib_of_a_body_is_not_read() -> None:
    with server(saying("200 OK", b" " * 65536 + b'{"status": "degraded"}')) as port:
        answer = check("127.0.0.1", port, HTTP)

    assert answer.healthy
    assert not answer.degraded


def test_an_endless_event_stream_is_healthy_by_its_status() -> None:
    def talk(connection: socket.socket, _request: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        connection.recv(1)  # open until the other side leaves

    with server(talk) as port:
        assert check("127.0.0.1", port, HTTP).detail == "HTTP 200"


def test_a_port_without_a_listener_is_refused() -> None:
    answer = check("127.0.0.1", unused_port(), HTTP)

    assert not answer.healthy
    assert answer.detail == "refused"


def test_silence_times_out() -> None:
    def talk(connection: socket.socket, _request: bytes) -> None:
        connection.recv(1)  # until the client hangs up

    with server(talk) as port:
        answer = check("127.0.0.1", port, HASTY)

    assert answer.detail == "timed out after 0.3 s"
    assert not answer.healthy
    assert 0.3 <= answer.seconds < 10


def test_a_dripping_answer_does_not_stretch_the_timeout() -> None:
    def talk(connection: socket.socket, _request: bytes) -> None:
        for _ in range(1000):
            connection.sendall(b"H")
            time.sleep(0.02)  # the drip itself; it ends when the client hangs up

    with server(talk) as port:
        answer = check("127.0.0.1", port, HASTY)

    assert answer.detail == "timed out after 0.3 s"
    assert answer.seconds < 10  # the whole drip takes 20 s


def test_another_protocol_is_not_http() -> None:
    with server(lambda connection, _: connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")) as port:
        assert check("127.0.0.1", port, HTTP).detail == "not HTTP"


def test_a_chunk_of_less_than_nothing_is_not_http() -> None:
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n"
    with server(lambda connection, _: connection.sendall(answer)) as port:
        assert check("127.0.0.1", port, HTTP).detail == "not HTTP"


def test_a_hang_up_is_told() -> None:
    with server(lambda _connection, _request: None) as port:
        assert check("127.0.0.1", port, HTTP).detail == "closed without an answer"


def test_an_address_that_is_not_reachable_is_told_in_the_systems_words() -> None:
    answer = check("255.255.255.255", 80, TCP)

    assert not answer.healthy
    assert answer.detail == answer.detail.lower()
    assert answer.detail


def test_an_odd_path_is_percent_encoded() -> None:
    paths: list[bytes] = []

    def talk(connection: socket.socket, request: bytes) -> None:
        paths.append(request.partition(b" HTTP")[0])
        saying("200 OK")(connection, request)

    with server(talk) as port:
        answer = check("127.0.0.1", port, HealthCheck(path="/é b\r\nX: 1?q=%20"))

    assert answer.healthy
    assert paths[0] == b"GET /%C3%A9%20b%0D%0AX:%201?q=%20"


def test_without_a_path_an_accepted_connection_is_enough() -> None:
    with server(lambda _connection, _request: None) as port:
        answer = check("127.0.0.1", port, TCP)

    assert answer.healthy
    assert answer.detail == "accepts connections"


def test_without_a_path_a_refusal_is_not_healthy() -> None:
    assert check("127.0.0.1", unused_port(), TCP).detail == "refused"


def test_a_connection_to_itself_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    port = unused_port()
    connect = socket.socket.connect

    def connect_from_the_same_port(self: socket.socket, address: tuple[str, int]) -> None:
        self.bind(address)  # what the kernel does by chance, once in 28,000 times
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect_from_the_same_port)

    assert check("127.0.0.1", port, TCP).detail == "refused"


class Clock:
    """Time that passes only while somebody sleeps or asks."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.slept.append(seconds)
        self.now += seconds


GOOD = Answer(healthy=True, detail="HTTP 200", seconds=0.001)
BAD = Answer(healthy=False, detail="refused", seconds=0.0)


def wait(ask: Callable[[], Answer], clock: Clock, **changes: object) -> Answer:
    alive = changes.pop("still_alive", lambda: True)
    deadline = changes.pop("deadline", clock.now + 60)
    return wait_until_healthy(
        ask,
        still_alive=alive,  # type: ignore[arg-type] # a test's own keyword
        deadline=deadline,  # type: ignore[arg-type] # the same
        sleep=clock.sleep,
        clock=clock,
    )


def test_the_first_good_answer_ends_the_wait() -> None:
    clock = Clock()

    answer = wait(lambda: GOOD if clock.now >= 1002 else BAD, clock)

    assert answer is GOOD
    assert 1002 <= clock.now < 1002.25


def test_a_start_of_60_ms_is_noticed_within_5_ms() -> None:
    clock = Clock()

    wait(lambda: GOOD if clock.now >= 1000.06 else BAD, clock)

    assert clock.now < 1000.065


def test_pauses_grow_to_a_quarter_of_a_second_and_no_further() -> None:
    clock = Clock()

    wait(lambda: BAD, clock)

    assert clock.slept[0] == 0.002
    assert max(clock.slept) == 0.25
    assert len(clock.slept) < 350


def test_the_deadline_ends_the_wait_with_the_last_answer() -> None:
    clock = Clock()

    answer = wait(lambda: BAD, clock, deadline=1001.0)

    assert answer is BAD
    assert clock.now == 1001.0


def test_a_deadline_that_has_passed_still_asks_once() -> None:
    clock = Clock()

    assert wait(lambda: GOOD, clock, deadline=999.0) is GOOD


def test_a_death_ends_the_wait_at_once() -> None:
    clock = Clock()

    answer = wait(lambda: BAD, clock, still_alive=lambda: clock.now < 1001)

    assert not answer.healthy
    assert clock.now < 1001.3


def test_a_good_answer_from_a_dead_process_is_not_believed() -> None:
    answer = wait(lambda: GOOD, Clock(), still_alive=lambda: False)

    assert not answer.healthy
    assert answer.detail == GOOD.detail


def test_a_real_server_that_comes_late_is_noticed_in_time() -> None:
    # 3 ms on an idle machine; a busy one may hold it up now and then, but not each time
    assert any(seconds_to_notice() < 0.1 for _ in range(5))


def seconds_to_notice() -> float:
    """Wait for a server that begins to listen later; tell how long it listened unnoticed."""
    port = unused_port()
    ready = threading.Event()
    listening_at: list[float] = []

    def listen_late() -> None:
        time.sleep(0.06)  # the start that is measured
        with socket.create_server(("127.0.0.1", port)):
            listening_at.append(time.monotonic())
            ready.wait(10)

    thread = threading.Thread(target=listen_late)
    thread.start()
    answer = wait_until_healthy(
        lambda: check("127.0.0.1", port, TCP),
        still_alive=lambda: True,
        deadline=time.monotonic() + 10,
    )
    noticed_at = time.monotonic()
    ready.set()
    thread.join(timeout=10)

    assert answer.healthy
    return noticed_at - listening_at[0]


def test_asking_two_hundred_agents_costs_less_than_a_twentieth_of_a_core() -> None:
    with server(saying("200 OK", b'{"status": "healthy"}')) as port:
        check("127.0.0.1", port, HTTP)
        began = time.thread_time()  # of this thread alone, whatever else the machine does
        answers = [check("127.0.0.1", port, HTTP) for _ in range(200)]
        spent = time.thread_time() - began

    assert all(answer.healthy for answer in answers)
    assert spent < HealthCheck().interval_seconds / 20

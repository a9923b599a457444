"""Streams on their way to a client: framing, heartbeats, slow clients, and how they end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from deployer.api.services import Waiting
from deployer.api.streams import UNSENT_BYTES, Connection, EventStream, Source, StreamEvent
from deployer.errors import AuthenticationRequiredError, DeploymentUnknownError, TooBusyError

A = StreamEvent(("a",), id="1")
RETRY = b"retry: 1000\n\n"


def connection(
    *,
    is_gone: Callable[[], bool] = lambda: False,
    unsent_bytes: Callable[[], int] = lambda: 0,
    recheck: Callable[[], None] = lambda: None,
) -> Connection:
    return Connection(is_gone, unsent_bytes, recheck, "key:0", "r1")


def stream(source: Source, waiting: Waiting | None = None, **options: Any) -> EventStream:
    known = {name: options.pop(name) for name in tuple(options) if name in Connection.__slots__}
    return EventStream(source, waiting or Waiting(1), connection(**known), "/poll", **options)


def only(*events: StreamEvent | None) -> Source:
    yield from events


def silent() -> Source:
    while True:
        time.sleep(0.01)
        yield None


def endless() -> Source:
    while True:
        yield A


def is_held(waiting: Waiting) -> bool:
    with waiting.place("somebody") as taken:
        return not taken


@pytest.mark.parametrize(
    ("event", "sent"),
    [
        (StreamEvent(("a", "b"), "kind", "7"), b"event: kind\ndata: a\ndata: b\nid: 7\n\n"),
        (StreamEvent(("",)), b"data: \n\n"),
        (StreamEvent(id="7"), b"id: 7\n\n"),
        (StreamEvent(("\u2028\u2029\x85\0",)), "data: \u2028\u2029\x85\0\n\n".encode()),
        (StreamEvent(("a\rb\nc\r\n",)), "data: a\ufffdb\ufffdc\ufffd\ufffd\n\n".encode()),
        (StreamEvent(("half a pair \ud800",)), b"data: half a pair ?\n\n"),
        (StreamEvent(("data: x", ":", "id: 8")), b"data: data: x\ndata: :\ndata: id: 8\n\n"),
    ],
)
def test_no_text_breaks_out_of_its_line(event: StreamEvent, sent: bytes) -> None:
    assert event.to_bytes() == sent


def test_it_begins_at_once_and_ends_with_its_source() -> None:
    assert list(stream(only(A, None, A))) == [RETRY, A.to_bytes(), A.to_bytes()]


def test_it_says_something_when_nothing_happens() -> None:
    said = iter(stream(silent(), heartbeat_seconds=0.05))
    assert [next(said) for _ in range(3)] == [RETRY, b":\n\n", b":\n\n"]


def test_it_ends_when_its_client_has_left() -> None:
    has_left = threading.Event()
    said = iter(stream(endless(), is_gone=has_left.is_set))
    next(said)
    next(said)
    has_left.set()
    assert list(said) == []


def test_it_lasts_as_long_as_was_asked_for() -> None:
    began = time.monotonic()
    assert list(stream(silent(), seconds=0.1)) == [RETRY]
    assert 0.1 <= time.monotonic() - began < 20


@pytest.mark.parametrize("source", [endless, silent])
def test_whoever_may_not_listen_any_more_is_told_why_and_nothing_else(
    source: Callable[[], Source],
) -> None:
    def recheck() -> None:
        raise AuthenticationRequiredError("cannot let you in: the key has expired")

    *_, last = stream(source(), recheck=recheck, heartbeat_seconds=0.05)
    assert last.startswith(b"event: problem\ndata: {")
    assert b'"code": "authentication-required"' in last


def test_an_error_of_its_source_is_told_as_a_problem() -> None:
    def source() -> Source:
        yield A
        raise DeploymentUnknownError("cannot find deployment 7")

    *_, last = stream(source())
    assert b'"code": "deployment-unknown"' in last
    assert b'"request_id": "r1"' in last


def test_a_slow_client_makes_the_source_rest() -> None:
    unsent = 0
    given = []

    def source() -> Source:
        for number in range(100):
            given.append(number)
            yield A

    said = iter(stream(source(), unsent_bytes=lambda: unsent))
    for _ in range(3):
        next(said)
    unsent = UNSENT_BYTES + 1
    waiter = threading.Thread(target=lambda: next(said))
    waiter.start()
    waiter.join(0.3)
    assert waiter.is_alive()
    assert given == [0, 1]
    unsent = UNSENT_BYTES
    waiter.join(20)
    assert not waiter.is_alive()
    assert given == [0, 1, 2]


def test_a_client_that_takes_nothing_is_left() -> None:
    unsent = UNSENT_BYTES + 1
    assert list(stream(endless(), unsent_bytes=lambda: unsent, stuck_seconds=0.1)) == [
        RETRY,
        A.to_bytes(),
    ]


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_a_client_that_takes_little_by_little_is_not_left(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("deployer.api.streams.time", clock)
    sizes = iter(range(UNSENT_BYTES + 12, 0, -1))
    said = stream(only(A, A), unsent_bytes=lambda: next(sizes), stuck_seconds=0.15)
    assert list(said) == [RETRY, A.to_bytes(), A.to_bytes()]
    assert clock.now > 1000.5


def test_it_holds_a_place_until_it_is_closed() -> None:
    waiting = Waiting(1)
    held = stream(only(A), waiting)
    assert is_held(waiting)
    list(held)
    held.close()
    assert not is_held(waiting)


def test_closing_it_closes_its_source() -> None:
    closed = []

    def source() -> Source:
        try:
            yield from endless()
        finally:
            closed.append(True)

    held = stream(source())
    said = iter(held)
    next(said)
    next(said)
    held.close()
    assert closed == [True]


def test_without_a_place_it_does_not_begin_and_names_what_to_ask_instead() -> None:
    with pytest.raises(TooBusyError) as caught:
        stream(only(A), Waiting(0))
    assert "/poll" in caught.value.hint

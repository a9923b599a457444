from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from deployer.starts import Starts
from tests.servers import wait_until


@pytest.fixture
def starts() -> Iterator[Starts]:
    it = Starts(at_once=2)
    yield it
    it.close()


def test_an_agent_that_hangs_holds_nobody_else_up(starts: Starts) -> None:
    over, done = threading.Event(), threading.Event()
    starts.submit("hangs", lambda: over.wait(20) and None)

    starts.submit("lively", done.set)

    assert done.wait(20)
    assert "hangs" in starts
    over.set()


def test_nobody_is_seen_to_twice_at_once(starts: Starts) -> None:
    over = threading.Event()
    starts.submit("greeter", lambda: over.wait(20) and None)

    assert not starts.submit("greeter", over.set)

    over.set()
    wait_until(lambda: "greeter" not in starts)
    assert starts.submit("greeter", over.set)

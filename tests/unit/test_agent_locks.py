from __future__ import annotations

import threading

import pytest

from deployer.agent_locks import AgentLocks
from deployer.errors import AgentBusyError


def test_whoever_waits_too_long_learns_who_holds_the_agent() -> None:
    locks = AgentLocks()
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with locks.hold("greeter", "deployment 12", timeout_seconds=1):
            held.set()
            done.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(20)
    with (
        pytest.raises(AgentBusyError, match="deployment 12") as raised,
        locks.hold("greeter", "stop greeter", timeout_seconds=0.01),
    ):
        pass
    done.set()
    thread.join()
    assert "cannot stop greeter" in raised.value.detail


def test_the_next_one_goes_in_when_the_holder_leaves() -> None:
    locks = AgentLocks()
    with locks.hold("greeter", "one", timeout_seconds=1):
        pass
    with locks.hold("greeter", "two", timeout_seconds=1):
        holder = locks.holder("greeter")
        assert holder is not None
        assert holder.owner == "two"
    assert locks.holder("greeter") is None


def test_other_agents_are_not_held() -> None:
    locks = AgentLocks()
    with (
        locks.hold("greeter", "one", timeout_seconds=1),
        locks.hold("other", "two", timeout_seconds=0),
    ):
        assert locks.holder("other") is not None


def test_a_holder_may_hold_again() -> None:
    locks = AgentLocks()
    with locks.hold("greeter", "one", timeout_seconds=1):
        with locks.hold("greeter", "within", timeout_seconds=0):
            pass
        assert locks.holder("greeter") is not None

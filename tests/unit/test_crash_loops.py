"""Deaths under a supervisord that does not count them."""

from __future__ import annotations

import pytest

from deployer.crash_loops import CrashLoops, is_death
from deployer.model import Process, RestartPolicy, State
from deployer.restarts import Restarts

RUNNING = Process("a--1", State.RUNNING, pid=7)


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (Process("a--1", State.RUNNING, pid=8), True),
        (Process("a--1", State.STARTING, pid=8), True),
        (Process("a--1", State.EXITED), True),
        (Process("a--1", State.FATAL), True),
        (Process("a--1", State.RUNNING, pid=7), False),
        (Process("a--1", State.STOPPING, pid=7), False),
        (Process("a--1", State.STOPPED), False),
    ],
)
def test_a_death_is_a_process_gone_that_nobody_stopped(now: Process, *, expected: bool) -> None:
    assert is_death(RUNNING, now) is expected


def test_a_program_that_was_not_alive_cannot_die() -> None:
    assert not is_death(None, RUNNING)
    assert not is_death(Process("a--1", State.EXITED), RUNNING)


def test_a_program_may_die_as_often_as_its_policy_says_and_others_do_not_count() -> None:
    now = 0.0
    loops = CrashLoops(lambda policy: Restarts(policy, clock=lambda: now))
    policy = RestartPolicy(max_restarts=2, window_seconds=60)

    assert [loops.record_death("a--1", policy) for _ in range(2)] == [None, None]
    assert loops.record_death("b--1", policy) is None
    assert "died 3 times within 60 s" in str(loops.record_death("a--1", policy))


def test_deaths_long_ago_are_forgotten() -> None:
    now = 0.0
    loops = CrashLoops(lambda policy: Restarts(policy, clock=lambda: now))
    policy = RestartPolicy(max_restarts=1, window_seconds=60)
    for now in (0.0, 61.0, 122.0):  # noqa: B007 - the clock reads it
        assert loops.record_death("a--1", policy) is None

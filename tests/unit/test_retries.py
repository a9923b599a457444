from __future__ import annotations

from datetime import UTC, datetime

from deployer.retries import Retries

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def delays(count: int) -> list[float]:
    retries = Retries(jitter=lambda: 0.5)
    return [
        (retries.record_failure("greeter", NOON).next_at - NOON).total_seconds()
        for _ in range(count)
    ]


def test_each_failure_is_retried_later_than_the_one_before_up_to_ten_minutes() -> None:
    assert delays(8) == [15, 30, 60, 120, 240, 480, 600, 600]


def test_jitter_keeps_agents_that_fail_together_from_coming_back_together() -> None:
    early = Retries(jitter=lambda: 0.0).record_failure("greeter", NOON).next_at
    late = Retries(jitter=lambda: 1.0).record_failure("greeter", NOON).next_at
    assert (late - early).total_seconds() == 3


def test_a_crash_loop_stays_one_until_the_agent_is_well() -> None:
    retries = Retries()
    retries.record_failure("greeter", NOON, is_crash_loop=True)
    assert retries.record_failure("greeter", NOON).is_crash_loop
    retries.forget("greeter")
    assert retries.of("greeter") is None
    assert not retries.record_failure("greeter", NOON).is_crash_loop

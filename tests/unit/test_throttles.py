"""Wrong keys, counted by address."""

from __future__ import annotations

import pytest

from deployer.api.throttles import Throttle


class Clock:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_so_many_wrong_keys_are_taken_and_then_one_now_and_then(clock: Clock) -> None:
    throttle = Throttle(6, clock=clock)
    assert [throttle.count("192.0.2.1") for _ in range(7)] == [0] * 6 + [10]
    clock.seconds = 9.9
    assert throttle.count("192.0.2.1") == 1
    clock.seconds = 10
    assert throttle.count("192.0.2.1") == 0
    assert throttle.count("192.0.2.1") == 10


def test_another_address_has_attempts_of_its_own(clock: Clock) -> None:
    throttle = Throttle(1, clock=clock)
    assert throttle.count("192.0.2.1") == 0
    assert throttle.count("192.0.2.1") > 0
    assert throttle.count("192.0.2.2") == 0


def test_an_ipv6_site_counts_as_one_address(clock: Clock) -> None:
    throttle = Throttle(1, clock=clock)
    assert throttle.count("2001:db8::1") == 0
    assert throttle.count("2001:db8::ffff:1") > 0
    assert throttle.count("2001:db8:0:1::1") == 0


def test_only_so_many_addresses_are_remembered(clock: Clock) -> None:
    throttle = Throttle(1, clock=clock)
    for number in range(10_000):
        throttle.count(f"10.0.{number // 256}.{number % 256}")
    assert len(throttle) == 4096


def test_waiting_gives_no_more_than_a_minutes_attempts(clock: Clock) -> None:
    throttle = Throttle(2, clock=clock)
    throttle.count("192.0.2.1")
    clock.seconds = 3600
    assert [throttle.count("192.0.2.1") > 0 for _ in range(3)] == [False, False, True]

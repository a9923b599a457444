"""Meters of bytes over time, on a clock that tests turn."""

from __future__ import annotations

from pathlib import Path

import pytest

from deployer.floods import Growth
from deployer.limits.meters import Meter


class Clock:
    """A clock that stands still until it is turned."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_what_keeps_to_the_rate_passes_for_ever(clock: Clock) -> None:
    meter = Meter(1000, 5, clock=clock)
    for _ in range(1000):
        clock.now += 1
        meter.take(1000)
        assert meter.is_open()


def test_twice_the_rate_passes_for_the_burst(clock: Clock) -> None:
    meter = Meter(1000, 5, clock=clock)
    seconds = 0
    while meter.is_open():
        meter.take(2000)
        clock.now += 1
        seconds += 1

    assert seconds in {5, 6}


def test_an_empty_meter_says_when_it_opens(clock: Clock) -> None:
    meter = Meter(1000, 1, clock=clock)
    meter.take(2000)

    wait = meter.seconds_until_open()
    assert wait == pytest.approx(1.1)
    clock.now += wait - 0.01
    assert not meter.is_open()
    clock.now += 0.02
    assert meter.is_open()
    assert meter.seconds_until_open() == 0


def test_it_is_full_again_after_a_quiet_time(clock: Clock) -> None:
    meter = Meter(1000, 5, clock=clock)
    meter.take(5000)
    assert not meter.is_full()
    clock.now += 5.1
    assert meter.is_full()


def test_a_log_that_is_rotated_counts_with_what_it_was(tmp_path: Path, clock: Clock) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"x" * 900)
    growth = Growth([log, tmp_path / "none"], Meter(1000, 1, clock=clock), rotated_bytes=1000)

    assert not growth.is_flood()
    log.rename(tmp_path / "log.1")
    log.write_bytes(b"x" * 100)
    assert not growth.is_flood()
    for number in range(2, 4):
        log.rename(tmp_path / f"log.{number}")
        log.write_bytes(b"x" * 100)
        is_flood = growth.is_flood()
    assert is_flood

"""Refusals, counted so that nobody fills the disk with them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

import pytest

from deployer.api.refusals import Refusals
from deployer.audits import Entry


class Clock:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def written() -> list[Entry]:
    return []


@pytest.fixture
def refusals(clock: Clock, written: list[Entry]) -> Refusals:
    return Refusals(written.append, clock=clock)


def refusal(source: str = "192.0.2.1", status: int = 401) -> Entry:
    return Entry(who="", operation="GET /v1/agents", source=source, status=status)


def test_the_first_refusal_is_written_at_once_and_the_rest_a_minute_later(
    refusals: Refusals, clock: Clock, written: list[Entry]
) -> None:
    for _ in range(1000):
        refusals.note(refusal())
    assert [entry.times for entry in written] == [1]
    clock.seconds = 61
    refusals.note(refusal())
    assert [entry.times for entry in written] == [1, 1000]


def test_what_is_not_written_yet_is_written_when_somebody_asks(
    refusals: Refusals, written: list[Entry]
) -> None:
    for _ in range(3):
        refusals.note(refusal())
    refusals.flush()
    refusals.flush()
    assert [entry.times for entry in written] == [1, 2]


def test_addresses_and_statuses_are_counted_apart(refusals: Refusals, written: list[Entry]) -> None:
    for source, status in (("a", 401), ("b", 401), ("a", 429)):
        refusals.note(refusal(source, status))
    assert [(entry.source, entry.status) for entry in written] == [
        ("a", 401),
        ("b", 401),
        ("a", 429),
    ]


def test_more_addresses_than_fit_are_counted_as_one(
    refusals: Refusals, written: list[Entry]
) -> None:
    for number in range(10_000):
        refusals.note(refusal(f"10.0.{number // 256}.{number % 256}"))
    refusals.flush()
    assert len(written) == 258
    assert (written[-1].source, written[-1].times) == ("many addresses", 10_000 - 257)


def of_a_key(operation: str, agent: str = "") -> Entry:
    return Entry("key:0", operation, "192.0.2.1", 403, agent=agent)


def test_an_act_that_a_known_key_is_refused_is_told_among_its_looks(
    refusals: Refusals, written: list[Entry]
) -> None:
    for _ in range(100):
        refusals.note(of_a_key("GET /v1/agents/{agent}", "a"))

    refusals.note(of_a_key("POST /v1/agents/{agent}/stop", "a"))
    refusals.note(of_a_key("POST /v1/agents/{agent}/stop", "b"))

    told = [(entry.operation.split()[0], entry.agent) for entry in written]
    assert told == [("GET", "a"), ("POST", "a"), ("POST", "b")]


def test_one_key_that_tries_everything_leaves_room_for_others(
    refusals: Refusals, written: list[Entry]
) -> None:
    for number in range(1000):
        refusals.note(of_a_key("POST /v1/agents/{agent}/stop", f"agent-{number}"))
    refusals.note(refusal())

    refusals.flush()

    assert len(written) == 19
    assert sum(entry.times for entry in written) == 1001
    assert {entry.source for entry in written} == {"192.0.2.1"}


@pytest.mark.parametrize("days", [1])
def test_an_attack_from_everywhere_writes_so_much_a_day_and_loses_no_count(
    refusals: Refusals, clock: Clock, written: list[Entry], days: int
) -> None:
    tries = 0
    for minute in range(days * 24 * 60):
        clock.seconds = 60.0 * minute
        for number in range(20):
            refusals.note(refusal(f"10.{minute % 256}.{number}.1"))
            tries += 1
    assert len(written) < 500 + days * 24 * 60 + 1
    assert sum(entry.times for entry in written) > 0.1 * tries


def failing_once(written: list[Entry]) -> Callable[[Entry], None]:
    broken = [sqlite3.OperationalError("database or disk is full")]

    def write(entry: Entry) -> None:
        if broken:
            raise broken.pop()
        written.append(entry)

    return write


def test_a_full_disk_keeps_nobody_waiting_and_the_count_stays(
    clock: Clock, written: list[Entry]
) -> None:
    refusals = Refusals(failing_once(written), clock=clock)
    refusals.note(refusal())
    refusals.note(refusal())
    assert [entry.times for entry in written] == [2]

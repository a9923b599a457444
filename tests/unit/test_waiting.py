"""Places for held requests, and whose they are."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from deployer.api.services import Waiting


def taken_by(who: str, waiting: Waiting, held: ExitStack, *, tries: int) -> int:
    return sum(held.enter_context(waiting.place(who)) for _ in range(tries))


@pytest.mark.parametrize(("limit", "share"), [(16, 8), (3, 2), (1, 1), (0, 0)])
def test_one_caller_gets_half_of_the_places(limit: int, share: int) -> None:
    with ExitStack() as held:
        assert taken_by("key:1", Waiting(limit), held, tries=20) == share


def test_all_callers_get_no_more_than_there_are() -> None:
    waiting = Waiting(16)
    with ExitStack() as held:
        taken = [taken_by(who, waiting, held, tries=7) for who in ("key:1", "key:2", "none")]

        assert (taken, waiting.held) == ([7, 7, 2], 16)


def test_places_are_given_back() -> None:
    waiting = Waiting(2)
    for _ in range(5):
        with waiting.place("key:1") as taken:
            assert taken
    assert waiting.held == 0

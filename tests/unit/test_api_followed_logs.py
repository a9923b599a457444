"""Logs on their way to a client: how they begin, go on and end, and what they hold meanwhile."""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path

import pytest

from deployer.api import followed_logs
from deployer.api.followed_logs import FollowedLog
from deployer.api.services import Waiting
from deployer.api.streams import UNSENT_BYTES
from deployer.errors import AuthenticationRequiredError, TooBusyError


def is_held(waiting: Waiting) -> bool:
    with waiting.place("somebody") as taken:
        return not taken


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "agent--1.stdout.log"
    path.write_text("".join(f"line {number}\n" for number in range(30)))
    return path


def test_it_begins_at_once_and_then_gives_the_last_lines(path: Path) -> None:
    log = FollowedLog(path, Waiting(1), lambda: False, who="key:0", seconds=0.1)
    first, second = list(log)
    log.close()
    assert first.endswith(b"\n")
    assert second.decode().splitlines() == [f"line {number}" for number in range(10, 30)]


def test_it_ends_when_its_time_is_over(path: Path) -> None:
    log = FollowedLog(path, Waiting(1), lambda: False, who="key:0", seconds=0.1)
    began = time.monotonic()
    list(log)
    log.close()
    assert time.monotonic() - began < 20


def test_it_ends_when_its_client_has_left(path: Path) -> None:
    has_left = threading.Event()
    log = FollowedLog(path, Waiting(1), has_left.is_set, who="key:0", seconds=60)
    blocks = iter(log)
    next(blocks)
    next(blocks)
    has_left.set()
    assert list(blocks) == []
    log.close()


def test_it_ends_when_the_server_ends(path: Path) -> None:
    waiting = Waiting(1)
    log = FollowedLog(path, waiting, lambda: False, who="key:0", seconds=60)
    blocks = iter(log)
    next(blocks)
    waiting.close()
    assert list(blocks) == []
    log.close()


@pytest.mark.parametrize("has_left", [False, True], ids=["its time is over", "it has left"])
def test_a_client_that_does_not_read_is_sent_no_more(path: Path, *, has_left: bool) -> None:
    seconds = 60 if has_left else 0.3
    full = UNSENT_BYTES + 1
    left = threading.Event()
    log = FollowedLog(
        path, Waiting(1), left.is_set, who="key:0", unsent_bytes=lambda: full, seconds=seconds
    )
    blocks = iter(log)
    next(blocks)
    if has_left:
        left.set()
    assert list(blocks) == []
    log.close()


def test_what_waits_for_a_client_is_taken_before_more_is_read(path: Path) -> None:
    unsent = iter([UNSENT_BYTES + 1, UNSENT_BYTES + 1, UNSENT_BYTES])
    log = FollowedLog(
        path, Waiting(1), lambda: False, who="key:0", unsent_bytes=lambda: next(unsent), seconds=60
    )
    blocks = iter(log)
    next(blocks)
    assert next(blocks).splitlines()[-1] == b"line 29"
    assert list(unsent) == []
    log.close()


def test_it_holds_a_place_until_it_is_closed(path: Path) -> None:
    waiting = Waiting(1)
    log = FollowedLog(path, waiting, lambda: False, who="key:0", seconds=0.1)
    assert is_held(waiting)
    list(log)
    log.close()
    assert not is_held(waiting)


def test_it_gives_its_place_back_even_when_nobody_read_it(path: Path) -> None:
    waiting = Waiting(1)
    FollowedLog(path, waiting, lambda: False, who="key:0").close()
    assert not is_held(waiting)


def test_without_a_place_it_does_not_begin(path: Path) -> None:
    waiting = Waiting(0)
    with pytest.raises(TooBusyError):
        FollowedLog(path, waiting, lambda: False, who="key:0")


def test_who_may_not_look_on_any_more_is_told_so_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log"
    monkeypatch.setattr(followed_logs, "RECHECK_SECONDS", 0.1)
    path.write_text("secret\n")

    def refuse() -> None:
        path.write_text("more\n")
        raise AuthenticationRequiredError("cannot let you in: revoked")

    log = FollowedLog(path, Waiting(1), lambda: False, who="key:0", recheck=refuse)
    with contextlib.closing(log):
        lines = b"".join(log).decode().splitlines()

    assert lines[1:] == ["secret", "[cannot let you in: revoked]"]

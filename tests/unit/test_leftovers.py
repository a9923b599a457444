"""What outlived its supervisord is ended with its process group, and nothing beside it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from deployer.leftovers import end_leftovers
from deployer.state_dir import MARKER

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """A starter of processes in a group that exists or, for 0, one of their own."""
    with ExitStack() as undo:

        def start_one(
            group: int = 0, *, is_marked: bool = False, **options: Any
        ) -> subprocess.Popen[bytes]:
            variables = {MARKER: str(tmp_path)} if is_marked else {}
            process = subprocess.Popen(
                ["/bin/sleep", "600"], process_group=group, env=variables, **options
            )
            undo.callback(process.wait, 20)
            undo.callback(process.kill)
            return process

        yield start_one


def has_ended(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        return False
    return True


def test_a_group_ends_with_its_leader(tmp_path: Path, start: Start) -> None:
    leader = start(is_marked=True)
    member = start(leader.pid)

    assert end_leftovers(tmp_path) == [leader.pid]

    assert has_ended(leader)
    assert has_ended(member)


def test_a_group_that_a_leftover_has_joined_lives_on(tmp_path: Path, start: Start) -> None:
    leader = start()
    member = start(leader.pid)
    leftover = start(leader.pid, is_marked=True)

    assert end_leftovers(tmp_path) == [leftover.pid]

    assert has_ended(leftover)
    assert (leader.poll(), member.poll()) == (None, None)


def test_a_group_without_its_leader_ends_as_far_as_it_is_of_one_user(
    tmp_path: Path, start: Start
) -> None:
    leader = start()
    member = start(leader.pid)
    others = [start(leader.pid, user=64123)] if os.geteuid() == 0 else []
    leftover = start(leader.pid, is_marked=True)
    leader.kill()
    os.waitid(os.P_PID, leader.pid, os.WEXITED | os.WNOWAIT)

    assert end_leftovers(tmp_path) == [leftover.pid]

    assert has_ended(leftover)
    assert has_ended(member)
    assert all(other.poll() is None for other in others)

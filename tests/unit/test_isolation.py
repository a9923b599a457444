"""What isolation decides without trying: levels, uids, and what is left of the surroundings."""

from __future__ import annotations

from pathlib import Path

import pytest

from deployer.isolation import choose_uid, surroundings
from deployer.isolation.probes import Findings
from deployer.isolation.uids import uid_range
from deployer.isolation_levels import IsolationLevel

HOST = "0 0 4294967295"
CONTAINER = "0 100000 65536"
ALL = ("files", "names", "signals", "ports", "control-socket", "abstract-sockets")


def test_levels_are_ordered_from_full_to_none() -> None:
    levels = list(IsolationLevel)

    assert [str(level) for level in levels] == ["full", "uid", "landlock+ns", "landlock", "none"]
    assert all(level.is_at_least(other) for i, level in enumerate(levels) for other in levels[i:])
    assert not IsolationLevel.UID.is_at_least(IsolationLevel.FULL)


@pytest.mark.parametrize(
    ("uid_map", "first"),
    [(HOST, 70_000), (CONTAINER, 50_000), (f"{CONTAINER}\n65536 165536 65536", 70_000)],
)
def test_uids_are_taken_from_what_the_user_namespace_has(uid_map: str, first: int) -> None:
    uids = uid_range(uid_map)

    assert uids is not None
    assert uids[0] == first


def test_no_uids_are_given_where_there_is_but_one() -> None:
    assert uid_range("0 1000 1") is None


def test_a_uid_comes_round_again_only_after_all_the_others() -> None:
    uids = range(70_000, 70_003)

    given = [choose_uid(uids, (), given=number) for number in range(4)]

    assert given == [70_000, 70_001, 70_002, 70_000]


def test_a_uid_that_is_taken_is_passed_over() -> None:
    assert choose_uid(range(70_000, 70_003), {70_001, 70_002}, given=1) == 70_000


def test_there_is_no_uid_when_all_are_taken() -> None:
    assert choose_uid(range(70_000, 70_002), {70_000, 70_001}, given=2) is None


@pytest.mark.parametrize(
    ("has_own_uids", "closed", "level"),
    [
        (True, ALL, "full"),
        (True, ("files", "names", "signals", "control-socket"), "uid"),
        (True, ("files",), "none"),
        (False, ALL, "landlock+ns"),
        (False, ("files", "signals", "ports", "abstract-sockets"), "landlock"),
        (False, ("files",), "landlock"),
        (False, (), "none"),
    ],
)
def test_a_level_is_what_was_refused(
    *, has_own_uids: bool, closed: tuple[str, ...], level: str
) -> None:
    answers = {name: "Permission denied" if name in closed else "open" for name in ALL}

    assert Findings(answers).level(has_own_uids=has_own_uids) == level


def test_what_was_not_tried_counts_as_open() -> None:
    assert Findings({}).level(has_own_uids=True) is IsolationLevel.NONE


def test_a_readable_directory_that_holds_the_state_is_readable_but_for_that(
    tmp_path: Path,
) -> None:
    root = tmp_path / "opt" / "atoll" / "state"
    for directory in (root, tmp_path / "opt" / "tool", tmp_path / "opt" / "atoll" / "bin"):
        directory.mkdir(parents=True)

    left = set(surroundings.without([tmp_path / "opt", Path("/usr")], root))

    assert left == {tmp_path / "opt" / "tool", tmp_path / "opt" / "atoll" / "bin", Path("/usr")}


def test_of_an_interpreter_in_a_home_no_more_than_its_parts_is_shown(tmp_path: Path) -> None:
    for name in ("bin", "lib", "private"):
        (tmp_path / name).mkdir()
    python = tmp_path / "bin" / "python3"
    python.touch()

    parts = surroundings.installation(python)

    assert set(parts) == {python, tmp_path / "bin", tmp_path / "lib"}


def test_no_cover_lies_below_another_one(tmp_path: Path) -> None:
    covers = [cover.path for cover in surroundings.covers(tmp_path, 70_000, 4096)]

    assert any(tmp_path.is_relative_to(cover) for cover in covers)
    assert not any(a != b and a.is_relative_to(b) for a in covers for b in covers)

"""Places in logs: whoever comes back to one reads on there, and is told when it is gone."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest

from deployer import log_files
from deployer.log_files import START, Position, open_all
from deployer.logs import Follower

BACKUPS = 3


class Rotated:
    """A log that is written and rotated as supervisord does it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.path.touch()

    def write(self, data: bytes) -> None:
        with self.path.open("ab") as file:
            file.write(data)

    def rotate(self, backups: int = BACKUPS) -> None:
        names = [self.path, *(Path(f"{self.path}.{number + 1}") for number in range(backups))]
        names[-1].unlink(missing_ok=True)
        for older, newer in reversed(list(zip(names[1:], names[:-1], strict=True))):
            if newer.exists():
                newer.rename(older)
        self.path.touch()


@pytest.fixture
def log(tmp_path: Path) -> Rotated:
    return Rotated(tmp_path / "agent--1.stdout.log")


def place(log: Rotated, *, lines: int = 0) -> Position:
    with Follower(log.path, lines=lines) as follower:
        return follower.position


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def after(log: Rotated, position: Position) -> tuple[list[str], bool]:
    with Follower(log.path, after=position) as follower:
        return follower.read(), follower.has_gap


def test_a_position_survives_being_written_down(log: Rotated) -> None:
    log.write(b"a\nb\n")
    position = place(log)
    assert Position.parse(str(position)) == position
    assert position.offset == 4


@pytest.mark.parametrize("text", ["", "1", "1-2", "1-2-3-4", "-1-2-3", "x-1-1", f"1-1-{'f' * 16}"])
def test_what_is_no_position_is_not_read_as_one(text: str) -> None:
    with pytest.raises(ValueError, match="no position"):
        Position.parse(text)


def test_reading_goes_on_at_a_position(log: Rotated) -> None:
    log.write(b"a\n")
    position = place(log)
    log.write(b"b\nc\n")
    assert after(log, position) == (["b", "c"], False)


def test_an_unfinished_line_is_read_from_its_beginning(log: Rotated) -> None:
    log.write(b"a\nhalf \xc3")
    position = place(log)
    log.write(b"\xa4 line\n")
    assert after(log, position) == (["half ä line"], False)


def test_a_line_cut_by_rotation_is_read_from_its_beginning(log: Rotated) -> None:
    log.write(b"a\nhalf ")
    log.rotate()
    log.write(b"a ")
    position = place(log)
    log.rotate()
    log.write(b"line\n")
    assert after(log, position) == (["half a line"], False)


def test_a_position_moves_with_its_file(log: Rotated) -> None:
    log.write(b"a\n")
    position = place(log)
    for number in range(BACKUPS):
        log.write(f"{number}\n".encode())
        log.rotate()
    log.write(b"end\n")
    assert after(log, position) == (["0", "1", "2", "end"], False)


def test_a_position_that_was_rotated_away_is_a_gap(log: Rotated) -> None:
    log.write(b"a\n")
    position = place(log)
    for number in range(BACKUPS + 1):
        log.write(f"{number}\n".encode())
        log.rotate()
    log.write(b"end\n")
    assert after(log, position) == (["1", "2", "3", "end"], True)


def test_a_new_file_with_the_old_ones_inode_is_not_taken_for_it(log: Rotated) -> None:
    log.write(b"a\nb\n")
    position = place(log)
    inode = log.path.stat().st_ino
    for _ in range(20):  # until the filesystem gives the number again, as ext4 does at once
        log.path.unlink()
        log.write(b"x\ny\nz\n")
        if log.path.stat().st_ino == inode:
            break
    else:
        pytest.skip("this filesystem gives no inode number again")
    assert after(log, position) == (["x", "y", "z"], True)


def test_a_log_that_was_truncated_is_a_gap(log: Rotated) -> None:
    log.write(b"a\nb\n")
    position = place(log)
    os.truncate(log.path, 0)
    log.write(b"c\n")
    assert after(log, position) == (["c"], True)


def test_a_gap_is_told_before_anything_is_written_again(log: Rotated) -> None:
    log.write(b"a\n")
    position = place(log)
    log.path.unlink()
    log.path.touch()
    assert after(log, position) == ([], True)


def test_where_there_was_no_log_yet_everything_is_new(log: Rotated) -> None:
    log.path.unlink()
    position = place(log)
    assert position == START
    log.write(b"a\n")
    log.rotate()
    log.write(b"b\n")
    assert after(log, position) == (["a", "b"], False)


def test_a_follower_that_is_outrun_says_so_where_lines_are_missing(log: Rotated) -> None:
    log.write(b"a\n")
    with Follower(log.path, lines=1) as follower:
        assert follower.read() == ["a"]
        log.write(b"b\nhalf")
        for number in range(BACKUPS + 1):
            log.rotate()
            log.write(f"{number}\n".encode())
        assert (follower.read(), follower.has_gap) == (["b", "half"], False)
        assert (follower.read(), follower.has_gap) == (["0", "1", "2", "3"], True)
        assert (follower.read(), follower.has_gap) == ([], False)


def test_coming_back_to_many_files_opens_few_of_them(log: Rotated) -> None:
    for number in range(60):
        log.write(f"{number}\n".encode())
        log.rotate(100)
    before = open_files()
    with Follower(log.path, after=START) as follower:
        assert open_files() - before < 10
        read = [line for _ in range(60) for line in follower.read()]
    assert read == [str(number) for number in range(60)]


def test_a_part_of_an_endless_line_ends_between_characters(log: Rotated) -> None:
    log.write(b"x" + "ä".encode() * 100_000)
    with Follower(log.path, lines=0, after=START) as follower:
        parts = follower.read()
    assert len(parts) > 1
    assert "\ufffd" not in "".join(parts)


@pytest.mark.parametrize("seed", range(20))
def test_whoever_leaves_and_comes_back_at_any_moment_reads_each_line_once(
    log: Rotated, seed: int
) -> None:
    chance = random.Random(seed)  # noqa: S311 - the same walk each time
    follower = Follower(log.path, after=START)
    written = read = b""
    rotations = 0
    for number in range(400):
        match chance.choice("wwwrRRL"):
            case "w":
                text = f"{number} {'.' * chance.randrange(40)}\n" * chance.randrange(4)
                data = text.encode()[: chance.randrange(120)]
                log.write(data)
                written += data
            case "r" if rotations < BACKUPS:  # more than that may lose lines between two readings
                log.rotate()
                rotations += 1
            case "R":
                read += "".join(f"{line}\n" for line in follower.read(50)).encode()
                assert not follower.has_gap
                if follower.position != START:
                    rotations = rotations_behind(log, follower.position)
            case "L":
                follower.close()
                follower = Follower(log.path, after=follower.position)
    log.write(b"end\n")
    written += b"end\n"
    while lines := follower.read():
        read += "".join(f"{line}\n" for line in lines).encode()
    follower.close()
    assert read == written


def rotations_behind(log: Rotated, position: Position) -> int:
    """Count how many files are newer than the one of a position."""
    for count, file in enumerate(open_all(log.path)):
        with file:
            if file.identity[1] == position.inode:
                return count
    raise AssertionError("a position was rotated away")


def test_files_that_are_made_during_a_look_do_not_stand_for_older_ones(
    log: Rotated, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.write(b"line 1\nli")
    follower = Follower(log.path, lines=1)
    assert follower.begin() == ["line 1"]
    log.rotate()
    log.write(b"ne 2\nline 3\nli")

    def rotate_twice(path: Path) -> None:
        """As a busy supervisord does while a reader is between one name and the next."""
        if path.name.endswith(".1") and not log.path.with_name("done").exists():
            log.path.with_name("done").touch()
            for data in (b"ne 4\nline 5\nli", b"ne 6\n"):
                time.sleep(0.02)  # births are told by the kernel's clock, which ticks every 4 ms
                log.rotate()
                log.write(data)

    opened = log_files._open

    def look(path: Path) -> log_files.LogFile | None:
        rotate_twice(path)
        return opened(path)

    monkeypatch.setattr(log_files, "_open", look)
    lines = follower.read() + follower.read() + follower.read()

    assert lines == [f"line {number}" for number in range(2, 7)]
    assert not follower.has_gap
    follower.close()

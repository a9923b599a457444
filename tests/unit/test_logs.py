from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from supervisor.loggers import RotatingFileHandler

from deployer.log_files import LogFile, open_all
from deployer.logs import Follower, tail


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "greeter--1.stdout.log"


@pytest.fixture
def follower(path: Path) -> Iterator[Follower]:
    with Follower(path) as follower:
        yield follower


class Log:
    """What supervisord does to a log file, by its own code: writes and rotates."""

    def __init__(self, path: Path, max_bytes: int, backups: int = 3) -> None:
        self._handler = RotatingFileHandler(
            str(path), mode="ab", maxBytes=max_bytes, backupCount=backups
        )

    def write(self, data: bytes) -> None:
        self._handler.stream.write(data)
        self._handler.flush()
        self._handler.doRollover()

    def close(self) -> None:
        self._handler.close()


@pytest.fixture
def log(path: Path) -> Iterator[Log]:
    log = Log(path, 50)
    yield log
    log.close()


def rotated(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")


def numbers(start: int, stop: int) -> bytes:
    return b"".join(b"%d\n" % number for number in range(start, stop))


def test_the_last_lines_are_given_oldest_first(path: Path) -> None:
    path.write_bytes(b"one\ntwo\nthree\n")

    assert tail(path, 2) == ["two", "three"]


def test_fewer_lines_than_asked_for_are_all_of_them(path: Path) -> None:
    path.write_bytes(b"one\ntwo\n")

    assert tail(path, 50) == ["one", "two"]


def test_an_unfinished_line_counts(path: Path) -> None:
    path.write_bytes(b"one\ntwo\nthr")

    assert tail(path, 2) == ["two", "thr"]


def test_empty_lines_are_lines(path: Path) -> None:
    path.write_bytes(b"one\n\n\n")

    assert tail(path, 3) == ["one", "", ""]


def test_a_missing_log_is_empty(path: Path) -> None:
    assert tail(path, 5) == []


def test_an_empty_log_is_empty(path: Path) -> None:
    path.touch()

    assert tail(path, 5) == []


@pytest.mark.parametrize("lines", [0, -1])
def test_no_lines_are_none(path: Path, lines: int) -> None:
    path.write_bytes(b"one\n")

    assert tail(path, lines) == []


def test_a_short_log_goes_on_in_the_rotated_files(path: Path) -> None:
    rotated(path, 2).write_bytes(b"one\ntwo\n")
    rotated(path, 1).write_bytes(b"three\n")
    path.write_bytes(b"four\n")

    assert tail(path, 3) == ["two", "three", "four"]


def test_a_line_cut_by_rotation_is_one_line(path: Path) -> None:
    rotated(path, 1).write_bytes(b"one\ntw")
    path.write_bytes(b"o\nthree\n")

    assert tail(path, 3) == ["one", "two", "three"]


def test_a_log_that_is_just_being_rotated_is_read_all_the_same(path: Path) -> None:
    rotated(path, 1).write_bytes(b"one\n")

    assert tail(path, 3) == ["one"]


def test_a_gap_in_mid_rotation_hides_nothing(path: Path) -> None:
    rotated(path, 2).write_bytes(b"one\n")
    path.write_bytes(b"two\n")

    assert tail(path, 3) == ["one", "two"]


def test_a_file_met_under_two_names_is_read_once(path: Path) -> None:
    path.write_bytes(b"one\n")
    os.link(path, rotated(path, 1))

    assert tail(path, 3) == ["one"]


def test_a_line_cut_by_the_limit_is_left_out(path: Path) -> None:
    path.write_bytes(b"a long line\ntwo\nthree\n")

    assert tail(path, 10, max_bytes=12) == ["two", "three"]


def test_a_single_line_longer_than_the_limit_is_given_from_its_end(path: Path) -> None:
    path.write_bytes(b"0123456789\n")

    assert tail(path, 10, max_bytes=5) == ["6789"]


def test_only_line_feeds_end_a_line(path: Path) -> None:
    path.write_bytes("a\x85b\u2028c\x0bd\r\n".encode())

    assert tail(path, 5) == ["ab\u2028cd"]


def test_bytes_that_are_not_utf8_are_replaced(path: Path) -> None:
    path.write_bytes(b"caf\xe9 \xff\xfe\n")

    assert tail(path, 1) == ["caf\ufffd \ufffd\ufffd"]


def test_colours_and_control_characters_are_left_out_and_tabs_kept(path: Path) -> None:
    path.write_bytes(b"\x1b[31;1mred\x1b[0m\tend\x00\x07\x1b]0;title\x07\n")

    assert tail(path, 1) == ["red\tend"]


def test_lines_longer_than_a_block_are_whole(path: Path) -> None:
    path.write_bytes(b"x" * 200_000 + b"\n" + b"y" * 200_000 + b"\n")

    assert [len(line) for line in tail(path, 2)] == [200_000, 200_000]


def test_many_lines_over_many_blocks_are_exact(path: Path) -> None:
    path.write_bytes(numbers(0, 100_000))

    assert tail(path, 70_000) == [str(number) for number in range(30_000, 100_000)]


def test_a_symlink_is_no_log(path: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret\n")
    path.symlink_to(tmp_path / "secret")

    assert tail(path, 5) == []


def test_a_fifo_is_no_log_and_does_not_hang(path: Path) -> None:
    os.mkfifo(path)

    assert tail(path, 5) == []


def test_a_follower_begins_at_the_end(path: Path) -> None:
    path.write_bytes(b"one\n")

    with Follower(path) as follower:
        assert follower.read() == []
        with path.open("ab") as file:
            file.write(b"two\n")
        assert follower.read() == ["two"]
        assert follower.read() == []


def test_a_follower_can_begin_some_lines_before(path: Path) -> None:
    rotated(path, 1).write_bytes(b"one\ntwo\n")
    path.write_bytes(b"three\nfo")

    with Follower(path, lines=2) as follower:
        assert follower.read() == ["two", "three"]
        with path.open("ab") as file:
            file.write(b"ur\n")
        assert follower.read() == ["four"]


def test_a_follower_that_begins_far_back_reads_nothing_twice(path: Path) -> None:
    path.write_bytes(numbers(0, 100_000))

    with Follower(path, lines=70_000) as follower:
        assert follower.read() == [str(number) for number in range(30_000, 100_000)]
        assert follower.read() == []


def test_a_follower_waits_for_the_end_of_a_line(log: Log, follower: Follower) -> None:
    log.write(b"half")
    assert follower.read() == []

    log.write(b" and half\n")
    assert follower.read() == ["half and half"]


def test_a_character_cut_by_two_writes_is_whole(log: Log, follower: Follower) -> None:
    log.write(b"caf\xc3")
    assert follower.read() == []

    log.write(b"\xa9\n")
    assert follower.read() == ["caf\u00e9"]


def test_a_follower_may_begin_before_the_log_does(path: Path) -> None:
    with Follower(path) as follower:
        assert follower.read() == []
        path.write_bytes(b"one\n")
        assert follower.read() == ["one"]


def test_a_follower_goes_on_after_rotation(log: Log, path: Path, follower: Follower) -> None:
    log.write(b"a" * 40 + b"\n")
    log.write(b"b" * 40 + b"\n")  # rotated after this
    log.write(b"c\n")

    assert rotated(path, 1).exists()
    assert follower.read() == ["a" * 40, "b" * 40, "c"]


def test_a_line_cut_by_rotation_reaches_the_follower_whole(log: Log, follower: Follower) -> None:
    log.write(b"a" * 60)  # rotated after this, in mid-line
    log.write(b"b\n")

    assert follower.read() == ["a" * 60 + "b"]


def test_two_rotations_between_two_reads_lose_nothing(log: Log, follower: Follower) -> None:
    for letter in b"abc":
        log.write(bytes([letter]) * 60 + b"\n")

    assert [line[0] for line in follower.read()] == ["a", "b", "c"]


def test_a_file_deleted_while_it_is_followed_is_read_to_its_end(path: Path) -> None:
    path.write_bytes(b"one\n")

    with Follower(path) as follower:
        with path.open("ab") as file:
            file.write(b"two\n")
        path.unlink()
        path.write_bytes(b"three\n")

        assert follower.read() == ["two"]
        assert follower.read() == ["three"]
        assert follower.has_gap  # nobody knows what may have come between the two


def test_a_log_truncated_in_place_is_read_from_its_start(path: Path) -> None:
    path.write_bytes(b"one, two, three\n")

    with Follower(path) as follower:
        path.write_bytes(b"four\n")

        assert follower.read() == ["four"]


def test_a_line_without_an_end_is_handed_out_in_parts(path: Path) -> None:
    path.touch()

    with Follower(path) as follower:
        path.write_bytes(b"x" * 150_000)

        assert [len(line) for line in follower.read()] == [65536, 65536]


def test_one_read_is_bounded_and_the_next_goes_on(path: Path) -> None:
    path.touch()

    with Follower(path) as follower:
        path.write_bytes(numbers(0, 400_000))
        first, second, third = follower.read(), follower.read(), follower.read()

        assert 0 < len(first) < 400_000
        assert [*first, *second, *third] == [str(number) for number in range(400_000)]


def test_a_follower_keeps_no_more_than_the_current_file_open(log: Log, follower: Follower) -> None:
    follower.read()
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a count, no paths
    for round_of_writes in range(5):
        log.write(b"%d" % round_of_writes * 60 + b"\n")
        follower.read()

    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208 - the same


def test_a_log_that_outruns_its_follower_does_not_fill_it_with_open_files(
    log: Log, follower: Follower
) -> None:
    follower.read()
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a count, no paths
    for _ in range(12):
        log.write(b"x\n" * 1_000_000)  # twice what one read takes
        follower.read()

    assert len(os.listdir("/proc/self/fd")) - before <= 4  # noqa: PTH208 - the same


def test_a_look_that_took_two_missing_names_for_the_end_is_repeated(
    log: Log, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.write(b"one\n")
    with Follower(path) as before:
        place = before.position
        log.write(b"two\nthr")
        for _ in range(2):
            log.write(b"x" * 100)  # rotates
        looks = []

        def look(path: Path) -> Iterator[LogFile]:
            looks.append(path)
            found = open_all(path)
            return found if len(looks) % 2 == 0 else itertools.islice(found, 1)

        monkeypatch.setattr("deployer.logs.open_all", look)
        with Follower(path, after=place) as follower:
            assert follower.read()[0] == before.read()[0] == "two"
            assert not follower.has_gap
            assert not before.has_gap


def test_no_line_is_lost_while_supervisords_code_rotates_under_the_reader(path: Path) -> None:
    lines = 20_000
    log = Log(path, 20_000)
    may_write = threading.Semaphore(400)  # some 33 kB ahead of the reader: up to two rotations

    def write() -> None:
        for number in range(lines):
            if not may_write.acquire(timeout=30):
                return  # the reader has failed, and nobody waits for us
            log.write(b"%d " % number + b"x" * (number % 150) + b"\n")

    got: list[int] = []
    writer = threading.Thread(target=write)
    with Follower(path) as follower:
        writer.start()
        while len(got) < lines:
            alive = writer.is_alive()
            new = [int(line.split()[0]) for line in follower.read()]
            got += new
            if new:
                may_write.release(len(new))
            elif not alive:
                break  # lines were lost
        writer.join(timeout=30)
    log.close()

    assert got == list(range(lines))

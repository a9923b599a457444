"""What is hidden in lines, and in what is left of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from deployer.log_files import START, Position
from deployer.logs import Follower, tail
from deployer.redactions import CutLine, Redaction

SECRET = "0123456789-abcdef"
LINE = f"it logs in with {SECRET} at noon"
LONG = 80_000


def redacted(*lines: str, value: str = SECRET) -> list[str]:
    return Redaction([("token", value)]).apply(lines)


def shows(text: str, value: str = SECRET) -> bool:
    """Tell whether a text has more of a secret than what is found everywhere."""
    return any(value[at : at + 4] in text for at in range(len(value) - 3))


def test_a_secret_is_hidden_wherever_it_stands() -> None:
    assert redacted(f"{SECRET}{SECRET}, {SECRET}") == [
        "[secret token][secret token], [secret token]"
    ]


def test_secrets_that_overlap_are_both_hidden() -> None:
    redaction = Redaction([("a", "one-and-two"), ("b", "two-and-three")])

    assert redaction.apply(["<one-and-two-and-three>"]) == ["<[secret a]>"]


def test_whole_lines_are_not_searched_for_parts() -> None:
    assert redacted("abcdef is here: 0123456789") == ["abcdef is here: 0123456789"]


@pytest.mark.parametrize("at", range(4, len(SECRET)))
def test_the_beginning_of_a_secret_is_hidden_where_a_line_is_cut(at: int) -> None:
    assert redacted(CutLine(f"with {SECRET[:at]}", lacks_end=True)) == ["with [secret token]"]


@pytest.mark.parametrize("at", range(1, len(SECRET) - 3))
def test_the_end_of_a_secret_is_hidden_where_a_line_is_cut(at: int) -> None:
    assert redacted(CutLine(f"{SECRET[at:]} at", lacks_start=True)) == ["[secret token] at"]


def test_a_line_that_is_cut_on_both_sides_within_a_secret_is_hidden() -> None:
    assert redacted(CutLine("3456789", lacks_start=True, lacks_end=True)) == ["[secret token]"]


def test_what_is_left_of_a_cut_character_is_passed_over() -> None:
    line = CutLine("\ufffdtücke und mehr", lacks_start=True)

    assert redacted(line, value="gößtücke") == ["\ufffd[secret token] und mehr"]


@given(st.text("ab", min_size=4, max_size=9), st.text("ab", max_size=30))
@example("aaab", "aaaab")
def test_no_whole_secret_is_left(value: str, line: str) -> None:
    (hidden,) = Redaction([("X", value)]).apply([line])

    assert value not in hidden


# Places that a client chose ---------------------------------------------------------------------


def position_in(path: Path, offset: int) -> Position:
    with Follower(path, after=START) as follower:
        follower.read()
        end = follower.position
    return Position(end.inode, end.born, offset)


@pytest.mark.parametrize("before", ["", "a line\n", "x" * LONG, f"{'x' * LONG}\n"])
def test_no_place_in_a_log_shows_a_secret(tmp_path: Path, before: str) -> None:
    path = tmp_path / "log"
    path.write_text(f"{before}{LINE}\nend\n")

    for offset in range(len(before), len(before) + len(LINE)):
        with Follower(path, after=position_in(path, offset)) as follower:
            read = redacted(*follower.read())
        assert not shows("\n".join(read)), offset


def test_a_place_within_a_line_is_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text(f"one\n{LINE}\nend\n")

    with Follower(path, after=position_in(path, 20)) as follower:
        assert follower.position.offset == 4
        assert follower.read() == [LINE, "end"]


def test_no_place_in_a_rotated_log_shows_a_secret(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text(f"one\n{LINE[:20]}")
    path.rename(tmp_path / "log.1")
    path.write_text(f"{LINE[20:]}\nend\n")

    for offset in range(len(LINE) - 20):
        with Follower(path, after=position_in(path, offset)) as follower:
            read = redacted(*follower.read())
        assert not shows("\n".join(read)), offset


# Lines that are cut by what reads them ----------------------------------------------------------


@pytest.mark.parametrize("at", range(1, len(SECRET)))
def test_a_secret_across_two_parts_of_a_long_line_is_hidden(tmp_path: Path, at: int) -> None:
    path = tmp_path / "log"
    path.touch()

    with Follower(path) as follower:
        path.write_text(f"{'x' * (65536 - at)}{SECRET}{'x' * 65536}")
        first, second = redacted(*follower.read())

    assert not shows(first)
    assert not shows(second)


def test_the_parts_of_a_long_line_go_on_at_their_bookmark(tmp_path: Path) -> None:
    path = tmp_path / "log"
    text = "".join(f"{number:07d}ä" for number in range(20_000))
    path.write_text(text)

    with Follower(path, after=START) as follower:
        (first, *_) = parts = follower.read()
        place = follower.position
    assert len(parts) > 1
    assert first.startswith("0000000ä")
    with path.open("a") as file:
        file.write("end\n")
    with Follower(path, after=place) as follower:
        assert "".join([*parts, *follower.read()]) == f"{text}end"


def test_the_end_of_a_secret_in_the_oldest_file_is_hidden(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.with_name("log.1").write_text(f"{LINE[22:]}\n")
    path.write_text("end\n")

    with Follower(path, after=START) as follower:
        followed = redacted(*follower.read())
    last = redacted(*tail(path, 10))

    assert followed == last == ["[secret token] at noon", "end"]


def test_the_end_of_a_secret_after_a_gap_is_hidden(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text(f"{LINE[:22]}")

    with Follower(path, after=START) as follower:
        assert follower.read() == []
        path.unlink()
        path.write_text(f"{LINE[22:]}\n")
        before, after = redacted(*follower.read()), redacted(*follower.read())

    assert before == ["it logs in with [secret token]"]
    assert after == ["[secret token] at noon"]


def test_the_end_of_a_secret_where_the_last_line_is_cut_is_hidden(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text(f"{LINE}\n")

    assert redacted(*tail(path, 1, max_bytes=19)) == ["[secret token] at noon"]
    assert not shows("".join(redacted(*tail(path, 1, max_bytes=19))))


def test_the_beginning_of_a_secret_in_an_unfinished_line_is_hidden(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text(LINE[:22])

    with Follower(path) as follower:
        assert redacted(follower.unfinished) == ["it logs in with [secret token]"]
    assert redacted(*tail(path, 1)) == ["it logs in with [secret token]"]

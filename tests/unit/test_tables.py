"""Tables that fit: which columns go, what is cut, what goes on in the next line."""

from __future__ import annotations

import pytest

from deployer.cli.tables import Column, lines

COLUMNS = (
    Column("NAME", narrow="cut"),
    Column("STATUS"),
    Column("PORT", priority=2),
    Column("UP", priority=1, is_number=True),
)
ROWS = [("greeter", "running", "8100", "5 min"), ("x", "crash_looping", "-", "12 h")]


def test_all_is_shown_where_there_is_room() -> None:
    assert lines(COLUMNS, ROWS, None) == [
        "NAME     STATUS         PORT     UP",
        "greeter  running        8100  5 min",
        "x        crash_looping  -      12 h",
    ]


@pytest.mark.parametrize(
    ("width", "titles"),
    [
        (35, ["NAME", "STATUS", "PORT", "UP"]),
        (34, ["NAME", "STATUS", "PORT"]),
        (28, ["NAME", "STATUS", "PORT"]),
        (27, ["NAME", "STATUS"]),
        (5, ["NAME", "STATUS"]),
    ],
)
def test_what_matters_less_goes_first(width: int, titles: list[str]) -> None:
    assert lines(COLUMNS, ROWS, width)[0].split() == titles


def test_a_long_name_is_cut_before_a_column_goes() -> None:
    told = lines(COLUMNS, [("a" * 30, "running", "8100", "5 min")], 34)
    assert told[0].split() == ["NAME", "STATUS", "PORT", "UP"]
    assert told[1] == "aaaaaaaaaaa…  running  8100  5 min"
    assert all(len(each) <= 34 for each in told)


def test_a_last_column_that_wraps_goes_on_below_itself() -> None:
    columns = (Column("AT"), Column("MESSAGE", narrow="wrap"))
    told = lines(columns, [("now", "one two three four"), ("then", "five")], 17)
    assert told == [
        "AT    MESSAGE",
        "now   one two",
        "      three four",
        "then  five",
    ]


def test_a_style_sees_the_whole_text_and_colours_the_padded_one() -> None:
    seen: list[tuple[str, str]] = []

    def style(padded: str, text: str) -> str:
        seen.append((padded, text))
        return f"<{padded}>"

    told = lines((Column("A"), Column("B")), [("x", "y"), ("long", "z")], None, style)
    assert told == ["A     B", "<x   >  <y>", "<long>  <z>"]
    assert ("x   ", "x") in seen

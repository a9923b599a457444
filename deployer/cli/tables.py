"""Tables that fit: columns that matter less go first, then texts are cut or wrapped."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

_GAP: Final = 2
_LEAST: Final = 6  # characters of a text that is cut
_READABLE: Final = 12
_CUT: Final = "…"

Style = Callable[[str, str], str]
"""Gives a padded text its colours, by the text that it was padded from."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    Attributes:
        title: Its head.
        priority: Those of the lowest go first where there is no room; None: it always stays.
        narrow: What becomes of a text when there is no room all the same: it is cut at its end, or
            goes on in the next line (for the last column), or stays, and the terminal breaks it.
        is_number: Whether it is set to the right.
    """

    title: str
    priority: int | None = None
    narrow: Literal["cut", "wrap", "stay"] = "stay"
    is_number: bool = False


def lines(
    columns: Sequence[Column],
    rows: Sequence[Sequence[str]],
    width: int | None,
    style: Style = lambda padded, _text: padded,
) -> list[str]:
    """Set a table.

    Args:
        columns: Of the table.
        rows: As many texts each as there are columns.
        width: In characters; None: as wide as it is.
        style: Colours what is in the rows.

    Returns:
        The titles and the rows, as lines without ends; one row may take several.
    """
    chosen, widths = _fit(columns, rows, width)
    shown = [columns[place] for place in chosen]
    told = [_set([each.title for each in shown], shown, widths, lambda padded, _text: padded)]
    for row in rows:
        texts = [row[place] for place in chosen]
        *_, last = shown
        parts = [texts[-1]]
        if last.narrow == "wrap" and len(texts[-1]) > widths[-1]:
            parts = textwrap.wrap(texts[-1], widths[-1]) or [""]
        told.append(_set([*texts[:-1], parts[0]], shown, widths, style))
        blank = [""] * (len(texts) - 1)
        told += [_set([*blank, part], shown, widths, style) for part in parts[1:]]
    return told


def _fit(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int | None
) -> tuple[list[int], list[int]]:
    """Choose which columns are shown, by their places, and how wide each is."""
    natural = [
        max(len(column.title), *(len(row[place]) for row in rows), 0)
        for place, column in enumerate(columns)
    ]
    chosen = list(range(len(columns)))
    if width is None:
        return chosen, natural
    least = [
        min(wide, max(_LEAST, len(column.title))) if column.narrow != "stay" else wide
        for column, wide in zip(columns, natural, strict=True)
    ]

    def over(widths: Sequence[int]) -> int:
        return sum(widths[place] for place in chosen) + _GAP * (len(chosen) - 1) - width

    # A long name is cut before a column goes, but not to less than can be read.
    readable = [max(each, min(wide, _READABLE)) for each, wide in zip(least, natural, strict=True)]
    droppable = [
        (column.priority, -place)
        for place, column in enumerate(columns)
        if column.priority is not None
    ]
    for _, place in sorted(droppable):
        if over(readable) <= 0:
            break
        chosen.remove(-place)
    widths = list(natural)
    for place in sorted(chosen, key=lambda each: -natural[each]):
        if over(widths) > 0 and columns[place].narrow != "stay":
            widths[place] = max(least[place], widths[place] - over(widths))
    return chosen, [widths[place] for place in chosen]


def _set(
    texts: Sequence[str], columns: Sequence[Column], widths: Sequence[int], style: Style
) -> str:
    cells = []
    for text, column, width in zip(texts, columns, widths, strict=True):
        cut = text
        if len(text) > width and column.narrow != "stay":
            cut = text[: width - 1] + _CUT
        padded = cut.rjust(width) if column.is_number else cut.ljust(width)
        cells.append(style(padded, text))
    if texts and not columns[-1].is_number:
        cells[-1] = style(cut, text) if cut else ""
    return (" " * _GAP).join(cells).rstrip()

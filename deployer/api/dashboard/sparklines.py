"""Small curves without axes: the last minute of something, as points of an SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

WIDTH: Final = 59
"""Of the drawing, one unit a reading: a minute of them, a second apart."""

HEIGHT: Final = 16


@dataclass(frozen=True, slots=True)
class Sparkline:
    """A curve and what it comes down to.

    Attributes:
        now: The latest value in words.
        line: Its points, as ``<polyline>`` takes them.
        area: What lies below it, as ``<polygon>`` takes it.
    """

    now: str
    line: str
    area: str


def draw(values: Sequence[float], now: str, *, top: float) -> Sparkline:
    """Draw values with the latest one at the right edge.

    Coordinates are whole, and along a level line only its ends are points, so that what hardly
    changes is drawn the same, and in few words.

    Args:
        values: The latest last; at least one, and none below 0.
        now: The latest one in words.
        top: The value that reaches the upper edge; a higher one makes it higher.
    """
    shown = values[-(WIDTH + 1) :]
    scale = (HEIGHT - 2) / max(top, *shown)
    left = WIDTH + 1 - len(shown)
    levels = [HEIGHT - 1 - round(value * scale) for value in shown]
    if len(levels) == 1:
        left, levels = left - 1, levels * 2
    corners = (
        (left + at, level)
        for at, level in enumerate(levels)
        if at in {0, len(levels) - 1} or not levels[at - 1] == level == levels[at + 1]
    )
    line = " ".join(f"{x},{y}" for x, y in corners)
    return Sparkline(now, line, f"{left},{HEIGHT} {line} {WIDTH},{HEIGHT}")

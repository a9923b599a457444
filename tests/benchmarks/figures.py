"""Measured figures, and how they are shown."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Goal:
    """What a figure is to be.

    Attributes:
        text: In words, as ratio or as difference.
        bound: The same for this run, in the figure's unit.
        is_floor: Ours is to be at least the bound; else at most.
    """

    text: str
    bound: float
    is_floor: bool = False

    def is_met(self, ours: float) -> bool:
        """Judge a value."""
        return ours >= self.bound if self.is_floor else ours <= self.bound

    def used(self, ours: float) -> float:
        """Give how much of what is allowed a value takes: above 1 it misses."""
        return self.bound / ours if self.is_floor else ours / self.bound


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing measured, ours beside the floor.

    Attributes:
        name: What was measured.
        unit: Of both values.
        ours: The middle of all rounds, or the least; `note` says which, where it is not the middle.
        floor: The same without the server, in the same run; None where nothing compares.
        goal: None where there is none.
        note: How it was got, as far as the name does not say so.
    """

    name: str
    unit: str
    ours: float
    floor: float | None = None
    goal: Goal | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Ours to the floor."""
        return self.ours / self.floor if self.floor else None

    @property
    def cost(self) -> float | None:
        """The same where less is better; where more is, the floor to ours."""
        is_rate = self.goal is not None and self.goal.is_floor
        return 1 / self.ratio if self.ratio and is_rate else self.ratio

    @property
    def is_met(self) -> bool | None:
        """Whether the goal was reached in this run; None where there is none."""
        return None if self.goal is None else self.goal.is_met(self.ours)


def at_most(text: str, bound: float) -> Goal:
    """Make a goal for what is to be small."""
    return Goal(text, bound)


def at_least(text: str, bound: float) -> Goal:
    """Make a goal for what is to be large."""
    return Goal(text, bound, is_floor=True)


def median(values: Sequence[float]) -> float:
    """Give the middle of several rounds: one disturbed round does not count."""
    return statistics.median(values)


def percentile(values: Sequence[float], percent: float) -> float:
    """Give what so many of a hundred values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def table(figures: Sequence[Figure]) -> str:
    """Lay figures out for people, the ratio first."""
    rows = [("", "ratio", "ours", "floor", "unit", "", "goal")]
    for each in figures:
        verdict = {None: "", True: "met", False: "MISSED"}[each.is_met]
        rows.append(
            (
                each.name,
                short(each.ratio),
                short(each.ours),
                short(each.floor),
                each.unit,
                verdict,
                "" if each.goal is None else each.goal.text,
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column in {1, 2, 3} else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def document(figures: Sequence[Figure]) -> dict[str, Any]:
    """Lay figures out for machines, with what they were measured on."""
    return {
        "machine": {
            "python": platform.python_version(),
            "system": platform.platform(),
            "cores": os.cpu_count(),
            "load": os.getloadavg()[0],
        },
        "figures": [
            {**asdict(each), "ratio": each.ratio, "is_met": each.is_met} for each in figures
        ],
    }


def short(value: float | None) -> str:
    """Write a value with three digits; nothing where there is none."""
    if value is None:
        return ""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"

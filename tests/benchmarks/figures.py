"""Measured figures, and how they are shown."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing measured, ours beside the bare floor.

    Attributes:
        name: What was measured.
        unit: Of both values.
        ours: The median over all rounds.
        bare: The same without the server; None where nothing compares.
        goal: In words; empty where there is none.
        is_met: Whether the goal was reached in this run; None where there is none.
    """

    name: str
    unit: str
    ours: float
    bare: float | None = None
    goal: str = ""
    is_met: bool | None = None

    @property
    def ratio(self) -> float | None:
        """Ours to bare."""
        return self.ours / self.bare if self.bare else None


def median(values: Sequence[float]) -> float:
    """Give the middle of several rounds: one disturbed round does not count."""
    return statistics.median(values)


def table(figures: Sequence[Figure]) -> str:
    """Lay figures out for people."""
    rows = [("", "ours", "bare", "ratio", "", "goal")]
    for each in figures:
        verdict = {None: "", True: "met", False: "MISSED"}[each.is_met]
        rows.append(
            (
                f"{each.name} [{each.unit}]",
                _short(each.ours),
                _short(each.bare),
                _short(each.ratio),
                verdict,
                each.goal,
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column in {0, 4, 5} else cell.rjust(width)
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
        "figures": [{**asdict(each), "ratio": each.ratio} for each in figures],
    }


def _short(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"

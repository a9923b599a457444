"""A picture of figures: how much of what its goal allows each of them takes."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from tests.benchmarks.figures import Figure, short

_INCHES_A_BAR = 0.27
_INCHES_AROUND = 1.0
_WIDTH = 9.0
_PALETTE = 32  # three quarters of the file are shades that nobody sees
_COLORS = {True: "#2a7f9e", False: "#d1495b"}


def plot(figures: Sequence[Figure], file: Path) -> None:
    """Draw figures that have a goal into a PNG: a bar each, on a logarithmic scale.

    Raises:
        ModuleNotFoundError: matplotlib is missing; `make bench` installs it where it can.
    """
    # Only who wants a picture needs it, and it takes a second to import.
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure as Page  # noqa: PLC0415
    from PIL import Image  # noqa: PLC0415

    shown = [figure for figure in figures if figure.goal is not None]
    used = [figure.goal.used(figure.ours) for figure in shown]
    page = Page(figsize=(_WIDTH, _INCHES_AROUND + _INCHES_A_BAR * len(shown)))
    FigureCanvasAgg(page)
    axes = page.subplots()
    colors = [_COLORS[bool(figure.is_met)] for figure in shown]
    # bars begin at the goal: to the left is room to spare, to the right is what is missing
    axes.barh(range(len(shown)), [each - 1 for each in used], left=1, color=colors, height=0.7)
    axes.set_xscale("log")
    axes.set_xlim(min([*used, 0.5]) * 0.7, max([*used, 2]) * 2.5)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_yticks(range(len(shown)), [figure.name for figure in shown], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("ours to the goal, 1: just met; left is better", fontsize=8)
    for row, (figure, share) in enumerate(zip(shown, used, strict=True)):
        label = f"{short(share)}"
        if figure.ratio is not None:
            label += f"   ({short(figure.ratio)} x floor)"
        axes.text(max(share, 1) * 1.06, row, label, va="center", fontsize=7)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(labelsize=8)
    axes.xaxis.set_major_formatter("{x:g}")
    drawn = BytesIO()
    page.savefig(drawn, dpi=100, format="png", bbox_inches="tight")
    with Image.open(drawn) as image:
        image.convert("RGB").quantize(_PALETTE).save(file, format="png", optimize=True)

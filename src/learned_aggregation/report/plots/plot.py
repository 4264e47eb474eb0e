"""What a plot is, and the colours and dashes of its curves.

Colours are written as the hexes of PALETTE and INK; `rendering.to_svg` turns them into CSS variables and
currentColor, so that the page's light and dark themes apply to the plots too.
"""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

INK, GRID = "#1b1f24", "#8a929b"
PALETTE = ("#0061b5", "#c44f02", "#17966d", "#8f2069", "#8f6501", "#5a4fb0", "#3793bd", "#5d6166")
DARK_PALETTE = ("#4fa8f5", "#ff9151", "#63e6b0", "#df6db0", "#e8b740", "#a595f7", "#8fe0f7", "#bfc3c7")
DASHES = ("", "6 2", "1.5 1.5", "6 1.5 1.5 1.5")
PANEL = (4.6, 3.0)
STYLE: Any = {
    "svg.fonttype": "none", "svg.hashsalt": "report", "text.parse_math": False, "font.size": 9.5,
    "axes.labelsize": 9.5, "axes.titlesize": 10, "xtick.labelsize": 8.5, "ytick.labelsize": 8.5,
    "text.color": INK, "axes.labelcolor": INK, "xtick.labelcolor": INK, "ytick.labelcolor": INK,
    "axes.edgecolor": GRID, "xtick.color": GRID, "ytick.color": GRID, "grid.color": GRID, "grid.alpha": 0.35,
    "grid.linewidth": 0.6, "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True,
    "hatch.linewidth": 0.8, "hatch.color": INK,
}  # fmt: skip


class Plot(NamedTuple):
    """One plot.

    name: its file name without suffix, unique in a report.
    draw: draws it on an empty axes.
    legend: labels of its curves; curve i has the colour and dashes of `style_of(i)`.
    size: width and height in inches.
    task: what the PNG's title says besides; the page says it in a heading.
    """

    name: str
    title: str
    caption: str
    draw: Callable[[Any], None]
    legend: tuple[str, ...] = ()
    size: tuple[float, float] = PANEL
    task: str = ""


def style_of(index: int) -> tuple[int, str]:
    """The palette index and the SVG dash pattern of a curve: four solid, four dashed, ..."""
    return index % len(PALETTE), DASHES[index // 4 % len(DASHES)]


def matplotlib_dashes(dashes: str):
    """An SVG dash pattern as matplotlib's line style."""
    return (0, tuple(float(part) / 1.6 for part in dashes.split())) if dashes else "-"


def slug(*parts: str) -> str:
    """A file name without surprises."""
    return re.sub(r"[^A-Za-z0-9]+", "_", "_".join(filter(None, parts))).strip("_").lower()

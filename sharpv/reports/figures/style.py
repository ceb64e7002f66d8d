"""One look for all figures: sizes of a two-column paper, the Okabe-Ito palette, SVG and PNG of one drawing.

Okabe and Ito's eight colours are told apart under all common forms of colour blindness (jfly.uni-koeln.de/color).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

COLUMN, PAGE = 3.35, 7.0
"""Widths in inches of one column and of both."""
BLACK, ORANGE, SKY, GREEN = "#000000", "#e69f00", "#56b4e9", "#009e73"
YELLOW, BLUE, VERMILION, PURPLE = "#f0e442", "#0072b2", "#d55e00", "#cc79a7"
GREY, FAINT = "#6b6b6b", "#d0d0d0"
OURS = "SharpV"
KINDS = {"dense": BLACK, "method": BLUE, "budget-matched": GREEN, "control": GREY}
MARKERS = {"dense": "D", "method": "o", "budget-matched": "s", "control": "^"}
SETTINGS: dict[Any, Any] = {
    "font.size": 8.0,
    "axes.titlesize": 8.5,
    "axes.titlelocation": "left",
    "axes.labelsize": 8.0,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.labelsize": 7.0,
    "ytick.labelsize": 7.0,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "lines.linewidth": 1.4,
    "lines.markersize": 4.5,
    "svg.hashsalt": "sharpv",
    "figure.dpi": 100,
}


@contextmanager
def paper_style() -> Iterator[None]:
    """The settings of every figure, for the time of drawing and saving; nothing of matplotlib stays changed."""
    with mpl.rc_context(SETTINGS):
        yield


def new_figure(width: float, height: float) -> Figure:
    """A figure of this size in inches that belongs to no window and needs no display."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def colour(kind: str, method: str) -> str:
    """The colour of a row: SharpV's own stands out, all others by their kind."""
    return VERMILION if OURS in method and kind != "control" else KINDS[kind]


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write <stem>.svg and <stem>.png (220 dots an inch); the same drawing gives the same bytes. Returns the paths."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    paths = [stem.with_name(f"{stem.name}.{ending}") for ending in ("svg", "png")]
    figure.savefig(paths[0], dpi=220, metadata={"Date": None, "Creator": None})
    figure.savefig(paths[1], dpi=220, metadata={"Software": None})
    return paths

"""Fig. 3: how much the states entering each layer still resemble what was fed in, by kind of token."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sharpv.reports.figures.labels import spread
from sharpv.reports.figures.style import BLUE, COLUMN, GREY, ORANGE, VERMILION, new_figure

TOKENS = {
    "visual": ("Visual", VERMILION, "-"),
    "system": ("System", BLUE, "--"),
    "instruction": ("Instruction", ORANGE, "-."),
}
PAPER_M = 0.2


def similarity_figure(samples: pd.DataFrame, model: str) -> Figure:
    """Mean cosine per layer over one model's dense answers, the band from the 10th to the 90th percentile of answers.

    The dotted line is the paper's M, a reference and not what another model was run with. ValueError where no dense
    answer holds cosines.
    """
    dense = samples[(samples["kind"] == "dense") & (samples["status"] == "ok")]
    figure = new_figure(COLUMN, 2.5)
    axes = figure.add_subplot()
    ends = {name: _line(axes, cosines, name) for name in TOKENS if (cosines := _per_layer(dense, name)) is not None}
    if not ends:
        raise ValueError(f"no dense answer of {model} holds cosines per layer: run the dense row again")
    axes.axhline(PAPER_M, color=GREY, linewidth=0.6, linestyle=":")
    last = axes.get_xlim()[1]
    names = [(TOKENS[name][0], TOKENS[name][1], end) for name, end in ends.items()]
    names.append((f"the paper's M = {PAPER_M}", GREY, PAPER_M))
    for (text, shade, _), place in zip(names, spread([end for *_, end in names], 0.085), strict=True):
        axes.annotate(
            text,
            (1, place),
            (3, 0),
            axes.get_yaxis_transform(),
            "offset points",
            color=shade,
            va="center",
            fontsize=7.5,
            annotation_clip=False,
        )
    axes.set_xlim(-0.2, last)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylim(min(-0.12, axes.get_ylim()[0]), 1.03)
    axes.set_xlabel("layer (0 = what is fed in)")
    axes.set_ylabel("cosine to what was fed in")
    axes.set_title(f"{model}, {len(dense):,} answers")
    return figure


def _per_layer(dense: pd.DataFrame, name: str) -> pd.DataFrame | None:
    """Cosines, a line an answer that has them and a column a layer, NaN where a layer has none; None without any."""
    found = [cosines for cosines in dense[f"layers.cosine_{name}"] if isinstance(cosines, list) and cosines]
    return pd.DataFrame(found, dtype=float) if found else None


def _line(axes: Axes, cosines: pd.DataFrame, name: str) -> float:
    """Draw a kind of token; the height of its last point."""
    _, shade, dashes = TOKENS[name]
    mean = cosines.mean()
    axes.fill_between(
        cosines.columns, cosines.quantile(0.1), cosines.quantile(0.9), color=shade, alpha=0.18, linewidth=0
    )
    axes.plot(cosines.columns, mean, color=shade, linestyle=dashes, marker="o", markersize=2.2)
    return float(mean.iloc[-1])

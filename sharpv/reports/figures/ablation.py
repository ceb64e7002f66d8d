"""Fig. 5: SharpV's three numbers, M of the memory stage, w and K of the visual one, each over a range."""

import re

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sharpv.reports.figures.labels import spread
from sharpv.reports.figures.style import BLACK, BLUE, FAINT, GREEN, PAGE, PURPLE, VERMILION, new_figure

SETTING = re.compile(r"\b([MwK]) = (\d+(?:\.\d+)?)")
PAPER = {"M": 0.2, "w": 1.0, "K": 1.6}
NAMES = {"M": "M, similarity threshold", "w": "w, weight of the spatial term", "K": "K, fixed threshold"}
COSTS = {
    "vr_pct": ("tokens fed", BLUE, "s", "-"),
    "mr_pct": ("KV read", GREEN, "^", "--"),
    "ttft_pct": ("TTFT", PURPLE, "D", ":"),
    "tpot_pct": ("TPOT", BLACK, "v", "-."),
}
SHOWN = {"M": ("mr_pct", "tpot_pct"), "w": ("vr_pct",), "K": ("vr_pct", "ttft_pct")}


def ablation_points(table: pd.DataFrame) -> pd.DataFrame:
    """The rows whose method names a setting, as "SharpV (M = 0.2)", by `parameter` and `value`; `ttft_pct` and
    `tpot_pct` are in percent of dense."""
    found = table["method"].str.extract(SETTING)
    dense = table[table["kind"] == "dense"].iloc[0]
    points = table.assign(
        parameter=found[0],
        value=found[1].astype(float),
        ttft_pct=100 * table["ttft_s"] / dense["ttft_s"],
        tpot_pct=100 * table["tpot_ms"] / dense["tpot_ms"],
    )
    return points.dropna(subset=["parameter"]).sort_values(["parameter", "value"], ignore_index=True)


def ablation_figure(table: pd.DataFrame) -> Figure:
    """Above, average accuracy with its 95% interval and dense's as a band; below, what it costs in percent of dense.

    The dotted line is the paper's choice, made on other models. ValueError without such a row.
    """
    points = ablation_points(table)
    parameters = [parameter for parameter in PAPER if (points["parameter"] == parameter).any()]
    if not parameters:
        raise ValueError(f"no row of {list(table['method'])} names M, w or K: run experiment=fig5")
    dense = table[table["kind"] == "dense"].iloc[0]
    figure = new_figure(PAGE, 3.6)
    panels = figure.subplots(2, len(parameters), sharex="col", sharey="row", squeeze=False)
    for column, parameter in enumerate(parameters):
        part = points[points["parameter"] == parameter]
        above, below = panels[:, column]
        _accuracy(above, part, dense)
        _costs(below, part, parameter)
        for axes in (above, below):
            axes.axvline(PAPER[parameter], color=BLACK, linewidth=0.6, linestyle=":")
        below.set_xlabel(NAMES[parameter])
        above.set_title("abc"[column], fontweight="bold")
    panels[0, 0].set_ylabel("average accuracy, %")
    panels[1, 0].set_ylabel("%, dense = 100")
    panels[1, 0].set_ylim(0, max(108, panels[1, 0].get_ylim()[1]))
    figure.suptitle(
        f"{table['model'].iloc[0]}: SharpV's settings (dotted: the paper's choice; grey: dense)",
        fontsize=8.5,
        x=0.01,
        ha="left",
    )
    return figure


def _accuracy(axes: Axes, part: pd.DataFrame, dense: pd.Series) -> None:
    axes.axhspan(dense["avg_acc_low"], dense["avg_acc_high"], color=FAINT, alpha=0.6, linewidth=0)
    axes.axhline(dense["avg_acc"], color="black", linewidth=0.6)
    error = [part["avg_acc"] - part["avg_acc_low"], part["avg_acc_high"] - part["avg_acc"]]
    axes.errorbar(part["value"], part["avg_acc"], yerr=error, color=VERMILION, marker="o", elinewidth=0.8)


def _costs(axes: Axes, part: pd.DataFrame, parameter: str) -> None:
    """Lines named at their right ends, where the axis is lengthened for the names."""
    first, last = part["value"].iloc[0], part["value"].iloc[-1]
    heights = spread([float(part[name].iloc[-1]) for name in SHOWN[parameter]], 12)
    for name, height in zip(SHOWN[parameter], heights, strict=True):
        label, shade, marker, dashes = COSTS[name]
        axes.plot(part["value"], part[name], color=shade, marker=marker, linestyle=dashes, markersize=3.5)
        axes.annotate(label, (last, height), (5, 0), textcoords="offset points", color=shade, fontsize=7, va="center")
    axes.set_xticks(part["value"])
    axes.set_xlim(first - 0.06 * (last - first), last + 0.42 * (last - first))

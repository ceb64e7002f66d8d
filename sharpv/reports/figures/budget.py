"""Accuracy against token budget, all methods with their 95% intervals: the picture that the paper lacks."""

from itertools import pairwise

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sharpv.reports.figures.labels import Place, label_points
from sharpv.reports.figures.style import BLACK, FAINT, MARKERS, OURS, PAGE, VERMILION, colour, new_figure
from sharpv.reports.markup import TIMES

BAR = ("token_budget_pct", "avg_acc_low", "avg_acc_high")


def budget_figure(table: pd.DataFrame) -> Figure:
    """One model's rows of Table 3: average accuracy in percent over the kept share VR x MR in percent (log scale).

    The dense row is a line with its interval; the steps join the methods that no other beats at their budget or below.
    ValueError without a row beside dense.
    """
    dense, others = table[table["kind"] == "dense"], table[(table["kind"] != "dense") & (table["token_budget_pct"] > 0)]
    if others.empty:
        raise ValueError(
            f"only {list(table['method'])} to draw: a picture of budgets needs a row beside dense and those of a sweep"
        )
    figure = new_figure(PAGE, 3.9)
    axes = figure.add_subplot()
    axes.set_xscale("log")
    for _, line in dense.iterrows():
        axes.axhspan(line["avg_acc_low"], line["avg_acc_high"], color=FAINT, alpha=0.5, linewidth=0)
        axes.axhline(line["avg_acc"], color=BLACK, linewidth=0.8)
    front = best_so_far(others)
    corners = _steps([*zip(front["token_budget_pct"], front["avg_acc"], strict=True)])
    axes.plot(*zip(*corners, strict=True), color=FAINT, linewidth=0.9, zorder=0)
    shades = [colour(line["kind"], line["method"]) for _, line in others.iterrows()]
    for shade, (_, line) in zip(shades, others.iterrows(), strict=True):
        error = [[line["avg_acc"] - line["avg_acc_low"]], [line["avg_acc_high"] - line["avg_acc"]]]
        axes.errorbar(
            line["token_budget_pct"],
            line["avg_acc"],
            yerr=error,
            fmt=MARKERS[line["kind"]],
            color=shade,
            markerfacecolor="white" if line["kind"] == "control" else shade,
            elinewidth=0.8,
        )
    low, high = others["token_budget_pct"].min(), max(others["token_budget_pct"].max(), 100)
    axes.set_xlim(low / 1.35, high * 1.35)
    ticks = [tick for tick in (1, 2, 5, 10, 20, 50, 100) if low / 1.35 <= tick <= high * 1.35]
    axes.set_xticks(ticks, [f"{tick}%" for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.set_xlabel(f"visual token budget VR {TIMES} MR, share of dense (log scale)")
    axes.set_ylabel("average accuracy, %")
    told = ", bars are 95% intervals" if table["avg_acc_low"].notna().any() else ""
    axes.set_title(f"{table['model'].iloc[0]}: accuracy against token budget{told}")
    places = [*zip(others["token_budget_pct"], others["avg_acc"], strict=True)]
    texts, colours = list(others["method"]), list(shades)
    for _, line in dense.iterrows():
        # Without an interval, as of one video a benchmark, under the line itself.
        below = line["avg_acc_low"] if pd.notna(line["avg_acc_low"]) else line["avg_acc"]
        axes.text(low / 1.3, below, f"Dense {line['avg_acc']:.1f}", va="top", fontsize=6.5)
    axes.legend(handles=_legend(others), loc="lower right", frameon=False, fontsize=6.5, handletextpad=0.2)
    bars = [((x, low), (x, high)) for x, low, high in zip(*(others[name] for name in BAR), strict=True)]
    label_points(axes, places, texts, colours, [*bars, *pairwise(corners)])
    return figure


def _steps(front: list[Place]) -> list[Place]:
    """The corners of the line that goes level to the next point and then up to it."""
    corners = [front[0]]
    for x, y in front[1:]:
        corners += [(x, corners[-1][1]), (x, y)]
    return corners


def _legend(rows: pd.DataFrame) -> list[Line2D]:
    """What shapes and colours mean, for those that occur."""
    looks = {(kind, colour(kind, method)) for kind, method in zip(rows["kind"], rows["method"], strict=True)}
    return [
        Line2D(
            [],
            [],
            color=shade,
            marker=MARKERS[kind],
            markerfacecolor="white" if kind == "control" else shade,
            linestyle="",
            label=OURS if shade == VERMILION else kind,
        )
        for kind, shade in sorted(looks, key=lambda look: ([*MARKERS].index(look[0]), look[1]))
    ]


def best_so_far(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows that no other row beats with the same budget or less, from the smallest budget up."""
    ordered = rows.sort_values(["token_budget_pct", "avg_acc"], ascending=[True, False])
    return ordered[ordered["avg_acc"] > ordered["avg_acc"].cummax().shift(fill_value=float("-inf"))]

"""Accuracy over budgets, one line a method, and where methods lose: by sub-task against dense."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sharpv.reports.figures.labels import HALO, spread
from sharpv.reports.figures.style import BLACK, BLUE, FAINT, GREY, OURS, PAGE, VERMILION, new_figure

LEAST_LOSS = 20
"""Points at which the heat map's colours end, if nothing loses more."""
PLATE = {"facecolor": "white", "edgecolor": "none", "pad": 0.3}
"""Behind a name that may lie on a line; unlike a halo it leaves the name searchable in an SVG."""
ROW_INCHES, COLUMN_INCHES = 0.16, 0.3


def field_figure(table: pd.DataFrame, highlight: Sequence[str] = (OURS,)) -> Figure:
    """One model's rows of the field table: average accuracy in percent over the share of visual tokens computed, mean
    over layers as measured (log scale); bands are 95% intervals.

    Methods whose name holds one of `highlight` stand out, with their bands; of the controls the best at each budget is
    one dashed line, dense a horizontal one, rows that set their own budget points. ValueError without rows at budgets.
    """
    answered = table[table["avg_acc"].notna()]
    at = answered[answered["budget_pct"].notna()].sort_values("layers_pct")
    if at.empty:
        raise ValueError("no row was set to a budget: run experiment=field_table")
    figure = new_figure(PAGE, 4.2)
    axes = figure.add_subplot()
    axes.set_xscale("log")
    (dense,) = (line for _, line in answered[answered["kind"] == "dense"].iterrows())
    axes.axhspan(dense["avg_acc_low"], dense["avg_acc_high"], color=FAINT, alpha=0.5, linewidth=0)
    axes.axhline(dense["avg_acc"], color=BLACK, linewidth=0.8)
    ends = []
    methods = at[at["kind"] != "control"]
    for method, part in methods.groupby("method", sort=False):
        shade = _shade(method, highlight)
        stands_out = shade == VERMILION
        width, strength = (2.0, 1.0) if stands_out else (0.9, 0.55)
        axes.plot(part["layers_pct"], part["avg_acc"], "o-", color=shade, linewidth=width, alpha=strength, markersize=3)
        if stands_out:
            axes.fill_between(
                part["layers_pct"], part["avg_acc_low"], part["avg_acc_high"], color=shade, alpha=0.12, linewidth=0
            )
        ends.append((part["layers_pct"].iloc[-1], part["avg_acc"].iloc[-1], str(method), shade))
    controls = at[at["kind"] == "control"]
    if len(controls):
        best = controls.loc[controls.groupby("budget_pct")["avg_acc"].idxmax()].sort_values("layers_pct")
        axes.plot(best["layers_pct"], best["avg_acc"], "^--", color=GREY, markerfacecolor="white", linewidth=1.2)
        ends.append((best["layers_pct"].iloc[-1], best["avg_acc"].iloc[-1], "best control", GREY))
    own = answered[answered["budget_pct"].isna() & (answered["kind"] == "method")]
    for _, line in own.iterrows():
        error = [[line["avg_acc"] - line["avg_acc_low"]], [line["avg_acc_high"] - line["avg_acc"]]]
        shade = _shade(line["method"], highlight)
        axes.errorbar(line["layers_pct"], line["avg_acc"], yerr=error, fmt="*", color=shade, elinewidth=0.8)
        text = axes.annotate(
            f"{line['method']}, own budget",
            (line["layers_pct"], line["avg_acc"]),
            xytext=(-5, -11),
            textcoords="offset points",
            ha="right",
            fontsize=6.5,
            color=shade,
        )
        text.set_path_effects(HALO)
    _name_ends(axes, ends, float(at["layers_pct"].max()))
    ticks = [tick for tick in (1, 2, 5, 10, 15, 20, 25, 50, 100) if tick <= 1.3 * at["layers_pct"].max()]
    ticks = [tick for tick in ticks if tick >= at["layers_pct"].min() / 1.3]
    axes.set_xticks(ticks, [f"{tick}%" for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("visual tokens computed, mean over layers, share of dense (log scale)")
    axes.set_ylabel("average accuracy, %")
    axes.set_title(f"{table['model'].iloc[0]}: every method at the same budgets (black: dense; bands: 95%)")
    return figure


def _shade(method: object, highlight: Sequence[str]) -> str:
    return VERMILION if any(name in str(method) for name in highlight) else BLUE


def _name_ends(axes: Axes, ends: list[tuple[float, float, str, str]], right: float) -> None:
    """The lines' names behind their right ends, one below the other."""
    axes.figure.canvas.draw()
    low, high = axes.get_ylim()
    room = 0.032 * (high - low)
    heights = spread([y for _, y, _, _ in ends], room)
    left = axes.get_xlim()[0]
    axes.set_xlim(left, right * (right / left) ** 0.42)
    for (x, y, name, shade), height in zip(ends, heights, strict=True):
        axes.plot([x, right * 1.08], [y, height], color=shade, linewidth=0.4, alpha=0.6)
        axes.text(right * 1.1, height, name, va="center", fontsize=6.5, color=shade, bbox=PLATE)


def loss_figure(categories: pd.DataFrame) -> Figure:
    """Which questions a method loses: accuracy minus dense's in points, a line a row and a column a sub-task.

    categories: one model's table of accuracies by sub-task. ValueError without a row beside dense.
    """
    wide = categories.pivot_table(index="method", columns=["benchmark", "task"], values="accuracy", sort=False)
    (dense,) = categories.loc[categories["kind"] == "dense", "method"].unique()
    loss = wide.drop(index=dense) - wide.loc[dense]
    if loss.empty:
        raise ValueError("only the dense row: a picture of losses needs another")
    figure = new_figure(max(PAGE, 1.8 + COLUMN_INCHES * loss.shape[1]), 1.4 + ROW_INCHES * len(loss))
    axes = figure.add_subplot()
    most = max(LEAST_LOSS, float(np.nanmax(np.abs(loss.to_numpy()))))
    image = axes.imshow(loss, cmap="RdBu", vmin=-most, vmax=most, aspect="auto")
    names = [str(task).removeprefix(f"{benchmark}_").replace("_", " ") for benchmark, task in loss.columns]
    axes.set_xticks(range(len(names)), names, rotation=40, ha="right", fontsize=6)
    axes.set_yticks(range(len(loss)), list(loss.index), fontsize=6)
    axes.tick_params(length=0)
    for row, column in np.argwhere(np.isfinite(loss.to_numpy())):
        value = loss.iloc[row, column]
        axes.text(
            column,
            row,
            f"{value:+z.0f}",
            ha="center",
            va="center",
            fontsize=5,
            color="white" if abs(value) > 0.6 * most else BLACK,
        )
    bar = figure.colorbar(image, ax=axes, shrink=0.8, aspect=30)
    bar.set_label("points against dense", fontsize=7)
    axes.set_title(f"{categories['model'].iloc[0]}: what is lost, by sub-task")
    return figure

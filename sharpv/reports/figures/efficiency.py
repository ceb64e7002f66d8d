"""Fig. 4: what each method costs beside dense: time to first token, time per token, memory, operations."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sharpv.reports.comparison import QUESTION
from sharpv.reports.figures.labels import HALO
from sharpv.reports.figures.style import BLACK, GREY, PAGE, VERMILION, colour, new_figure

METRICS: Mapping[str, tuple[str, str | None]] = {
    "TTFT": ("ttft_s", "ttft_s"),
    "TPOT": ("tpot_s", None),
    "Peak memory": ("memory.peak_bytes", "memory_gb"),
    "Prefill FLOPs": ("flops.eq5_prefill", "tflops"),
}
"""Panel -> column of the store, and the paper's column in Table 3."""


def efficiency_figure(samples: pd.DataFrame, table: pd.DataFrame, paper: pd.DataFrame) -> Figure:
    """Bars: the median over questions of a row's cost divided by dense's for the same question; whiskers: quartiles.

    Below 1 is cheaper than dense. Rows as in the table of this model; a diamond is the paper's ratio where it printed
    both. The line in the first panel is the vision tower's time, which no method that encodes all frames gets below. A
    panel says so where nothing was measured. ValueError without a row beside dense.
    """
    rows = table[table["kind"] != "dense"]
    if rows.empty:
        raise ValueError(f"only {list(table['method'])} to draw: costs relative to dense need another row")
    published = paper[paper["model"] == table["model"].iloc[0]].set_index("method")
    figure = new_figure(PAGE, 0.75 + 0.17 * len(rows))
    panels = figure.subplots(1, len(METRICS), sharey=True)
    for axes, (name, (column, printed)) in zip(panels, METRICS.items(), strict=True):
        ratios = relative_to_dense(samples, column)
        axes.set_title(name)
        _bars(axes, rows, ratios)
        if name == "TTFT":
            bound = _vision_share(samples)
            axes.axvline(bound, color=BLACK, linewidth=0.7, linestyle="--")
            axes.text(bound + 0.02, len(rows) - 0.35, "vision alone", fontsize=6, ha="left", va="top")
        if printed is not None and "Dense" in published.index:
            _paper(axes, rows, published[printed])
    panels[0].set_yticks(range(len(rows)), list(rows["method"]))
    panels[0].set_ylim(len(rows) + 0.25, -0.6)
    diamonds = "; diamonds: the paper's" if "Dense" in published.index else ""
    figure.suptitle(
        f"{table['model'].iloc[0]}: cost relative to dense = 1 (median over questions, whiskers: quartiles{diamonds})",
        fontsize=8.5,
        x=0.01,
        ha="left",
    )
    return figure


def relative_to_dense(samples: pd.DataFrame, column: str) -> pd.DataFrame:
    """Per row the quartiles `low`, `middle`, `high` of its value over dense's for the same question, where measured."""
    done = samples[samples["status"] == "ok"].astype({column: float}).dropna(subset=[column])
    dense = done[done["kind"] == "dense"].set_index(QUESTION)[column]
    ratio = done.set_index(QUESTION)[column] / dense.reindex(pd.MultiIndex.from_frame(done[QUESTION])).to_numpy()
    quartiles = ratio.groupby(done["row"].to_numpy()).quantile([0.25, 0.5, 0.75]).unstack()
    return (
        quartiles.set_axis(["low", "middle", "high"], axis=1)
        if len(ratio)
        else pd.DataFrame(columns=["low", "middle", "high"])
    )


def _bars(axes: Axes, rows: pd.DataFrame, ratios: pd.DataFrame) -> None:
    found = rows["row"].isin(ratios.index)
    if not found.any():
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", color=GREY)
        axes.set_xticks([])
        return
    for place, (_, line) in enumerate(rows.iterrows()):
        if line["row"] not in ratios.index:
            continue
        low, middle, high = ratios.loc[line["row"]]
        shade = colour(line["kind"], line["method"])
        axes.barh(place, middle, height=0.66, color=shade, alpha=0.85 if shade == VERMILION else 0.55, linewidth=0)
        axes.plot([low, high], [place, place], color="black", linewidth=0.7)
        axes.text(max(high, middle) + 0.03, place, f"{middle:.2f}", va="center", fontsize=6, path_effects=HALO)
    axes.axvline(1, color=GREY, linewidth=0.6, linestyle=":")
    axes.set_xlim(0, 1.28 * max(1.0, ratios.loc[ratios.index.isin(rows["row"]), "high"].max()))
    axes.tick_params(axis="y", length=0)


def _vision_share(samples: pd.DataFrame) -> float:
    dense = samples[(samples["kind"] == "dense") & (samples["status"] == "ok")]
    return float(dense["times_s.vision"].astype(float).median() / dense["ttft_s"].astype(float).median())


def _paper(axes: Axes, rows: pd.DataFrame, printed: pd.Series) -> None:
    for place, method in enumerate(rows["method"]):
        if method in printed.index:
            axes.plot(
                printed[method] / printed["Dense"],
                place,
                marker="D",
                color="white",
                markeredgecolor="black",
                markersize=3.5,
            )

"""More frames at the cost of few: accuracy, and what of the time to the first token the vision tower takes."""

import pandas as pd
from matplotlib.figure import Figure

from sharpv.reports.figures.labels import spread
from sharpv.reports.figures.style import BLACK, FAINT, GREY, OURS, PAGE, VERMILION, colour, new_figure


def frames_figure(table: pd.DataFrame) -> Figure:
    """One model's rows of the frames table. Left: average accuracy in percent over frames, a line a method from dense
    at the fewest frames on, whose interval is the band. Right: TTFT in seconds, the dashed part is the tower's.

    ValueError with one number of frames only.
    """
    if table["frames"].nunique() < 2:
        raise ValueError("one number of frames only: a picture of frames needs two")
    fewest = table[table["kind"] == "dense"].iloc[0]
    figure = new_figure(PAGE, 3.6)
    left, right = figure.subplots(1, 2)
    left.axhspan(fewest["avg_acc_low"], fewest["avg_acc_high"], color=FAINT, alpha=0.5, linewidth=0)
    ends = []
    for method, part in table[table["kind"] != "dense"].groupby("method", sort=False):
        kind = part["kind"].iloc[0]
        is_dense = method == fewest["method"]
        shade = BLACK if is_dense else colour(kind, str(method))
        places = pd.concat([fewest.to_frame().T, part]).astype({"frames": float, "avg_acc": float, "ttft_s": float})
        style, width = ("--" if kind == "control" else "-"), (1.8 if shade == VERMILION else 0.9)
        left.plot(places["frames"], places["avg_acc"], style, color=shade, marker="o", markersize=3, linewidth=width)
        right.plot(places["frames"], places["ttft_s"], style, color=shade, marker="o", markersize=3, linewidth=width)
        ends.append((float(places["frames"].iloc[-1]), float(places["avg_acc"].iloc[-1]), str(method), shade))
    tower = table.assign(tower_s=table["ttft_s"] * table["tower_pct"] / 100).groupby("frames")["tower_s"].median()
    right.plot(tower.index, tower, ":", color=GREY, linewidth=1.6)
    right.annotate("vision tower", (tower.index[-1], tower.iloc[-1]), xytext=(-4, -10), textcoords="offset points",
                   ha="right", fontsize=6.5, color=GREY)  # fmt: skip
    counts = sorted(table["frames"].unique())
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        axes.set_xticks(counts, [f"{frames:g}" for frames in counts])
        axes.set_xlabel("frames")
    left.set_ylabel("average accuracy, %")
    right.set_ylabel("TTFT, s")
    right.set_ylim(bottom=0)
    low, high = left.get_ylim()
    for (x, y, name, shade), height in zip(ends, spread([y for _, y, _, _ in ends], 0.04 * (high - low)), strict=True):
        left.plot([x, 1.08 * x], [y, height], color=shade, linewidth=0.4, alpha=0.6, clip_on=False)
        left.text(1.1 * x, height, name.replace(f"{OURS} (set budget, ours)", f"{OURS} at budget"), va="center",
                  fontsize=6, color=shade)  # fmt: skip
    left.set_xlim(right=1.9 * table["frames"].max())
    figure.suptitle(
        f"{table['model'].iloc[0]}: more frames at the LLM's cost of {fewest['frames']:g} (black: dense)",
        fontsize=8.5, x=0.01, ha="left",
    )  # fmt: skip
    return figure

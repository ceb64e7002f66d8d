"""The crossover figure: from how many frames on pruning pays, who stands out, and where the bound is.

Above, the curves over frames, few of them named; below, all methods by name at the largest number of frames.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from sharpv.metrics.profiling.results import Compared
from sharpv.reports.figures.labels import spread
from sharpv.reports.figures.style import BLACK, BLUE, FAINT, GREEN, GREY, PAGE, VERMILION, new_figure

Points = dict[int, Compared]
"""One method: by number of frames, ascending, its measured row."""

CURVES_INCHES, ROW_INCHES, AROUND_ROWS_INCHES, AROUND_INCHES = 2.6, 0.125, 0.9, 0.5
"""Heights: of the curves with their axes, of a method's row, of what surrounds the rows, and of title and legend."""
LEAST_ROWS = 3
LABEL_GAP = 0.058
"""Least distance of two names beside a panel, as a share of its height."""
CONTROLS = ("random", "uniform", "downsample", "fewer_frames")
INSIDE = ("fastv", "vtw", "framefusion", "prunevid", "dycoke")
"""Those with a memory stage, but for SharpV."""
OURS = "sharpv"
HALVES = {"sharpv": "-", "sharpv_visual": "--", "sharpv_memory": ":"}
DASHED = (0, (4, 2))
LOOKS: dict[str, dict[str, Any]] = {
    "SharpV": {"color": VERMILION, "marker": "D"},
    "acts inside the model": {"color": BLUE, "marker": "s"},
    "acts before it": {"color": GREEN, "marker": "o"},
    "control": {"color": GREY, "marker": "^", "markerfacecolor": "white", "linestyle": DASHED},
}
CEILING: dict[str, Any] = {"color": BLACK, "linestyle": ":", "linewidth": 0.9}
REST: dict[str, Any] = {"color": GREY, "alpha": 0.4, "linewidth": 0.7}
NOTE = (
    "marks and whiskers: median and quartiles of the repeats. pays from: number of frames from which on "
    "its quartiles lie above dense's (\N{EN DASH}: from none)"
)


@dataclass(frozen=True)
class Metric:
    """A time of the result file, and whether the vision tower is part of it, which sets a bound."""

    title: str
    column: str
    bounded: bool

    def speedup(self, row: Compared, end: str = "") -> float:
        """Dense's median over this row's; `end`: over its quartile, "_low" or "_high"."""
        return row.dense_value(self.column) / row.value(self.column + end)

    def faster(self, row: Compared) -> bool:
        """Whether the row's quartiles lie below dense's."""
        return row.value(f"{self.column}_high") < row.dense_value(f"{self.column}_low")

    def pays_from(self, points: Points) -> int | None:
        """The number of frames from which on the method is faster, up to the largest measured; None without one."""
        found = None
        for frames, row in sorted(points.items(), reverse=True):
            if not self.faster(row):
                break
            found = frames
        return found


METRICS = (Metric("time to first token", "ttft_s", True), Metric("decoding, time per token", "tpot_s", False))


def crossover_figure(blocks: Mapping[int, Sequence[Compared]], title: str) -> Figure:
    """Curves over frames and the ranking at the most frames of all methods that were measured; blocks: by frames."""
    methods: dict[str, Points] = {}
    for frames, block in blocks.items():
        for row in block:
            methods.setdefault(row.name, {})[frames] = row
    dense, last = methods.pop("dense"), max(blocks)
    order = sorted(methods, key=lambda name: _rank(methods[name], last))
    heights = CURVES_INCHES, ROW_INCHES * max(LEAST_ROWS, len(order)) + AROUND_ROWS_INCHES
    figure = new_figure(PAGE, sum(heights) + AROUND_INCHES)
    figure.suptitle(title, fontsize=8.5, x=0.01, ha="left")
    above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=heights)[:, 0]
    curves, ranks = above.subplots(1, 2), below.subplots(1, 2, sharey=True)
    for metric, curve, rank in zip(METRICS, curves, ranks, strict=True):
        beyond = [name for name in order if metric.bounded and _beyond(methods[name], dense)]
        _curves(curve, metric, methods, dense, beyond)
        _ranking(rank, metric, {name: methods[name] for name in order}, dense, beyond, last)
    curves[0].set_ylabel("speed-up over dense")
    below.supxlabel(NOTE, fontsize=6, color=GREY)
    figure.legend(
        handles=_legend(order), loc="outside lower center", ncols=7, frameon=False, fontsize=6.5, columnspacing=1.3
    )
    return figure


def kind(name: str) -> str:
    """SharpV and its halves, controls, and the others by where they act: a key of LOOKS."""
    if name.startswith(OURS):
        return "SharpV"
    if name in CONTROLS:
        return "control"
    return "acts inside the model" if name in INSIDE else "acts before it"


def colour(name: str) -> str:
    return LOOKS[kind(name)]["color"]


def _rank(points: Points, last: int) -> tuple[bool, float]:
    """Fastest to the first token first, what was not measured at the most frames behind."""
    return (last not in points, -points[max(points)].speedup)


def _beyond(points: Points, dense: Points) -> bool:
    """Whether a method is faster than the vision tower on all frames: it encodes fewer, and its curve would leave the
    others no height."""
    return all(row.speedup > dense[frames].ceiling for frames, row in points.items())


def _legend(names: Sequence[str]) -> list[Line2D]:
    """What colours, marks and lines mean, for the kinds that occur."""
    kinds = {kind(name) for name in names}
    handles = [Line2D([], [], label=text, linewidth=1.1, **looks) for text, looks in LOOKS.items() if text in kinds]
    return [
        *handles,
        Line2D([], [], label="others", **REST),
        Line2D([], [], label="own bound", color=BLACK, marker="|", linestyle="", markersize=6),
        Line2D([], [], label="vision only", **CEILING),
    ]


def _named(methods: Mapping[str, Points], metric: Metric, last: int) -> dict[str, str]:
    """The curves that stand out, with what is written at their end: SharpV and its halves, the fastest control, and
    the fastest and the slowest of the others, at the most frames."""
    order = sorted((name for name in methods if last in methods[name]), key=lambda n: metric.speedup(methods[n][last]))
    controls = [name for name in order if kind(name) == "control"]
    others = [name for name in order if kind(name) not in ("control", "SharpV")]
    named = {name: name for name in [*methods] if kind(name) == "SharpV"} | {name: name for name in controls[-1:]}
    named |= {name: f"slowest: {name}" for name in others[:1]}
    return named | {name: f"fastest: {name}" for name in others[-1:]}


def _curves(axes: Axes, metric: Metric, methods: Mapping[str, Points], dense: Points, beyond: Sequence[str]) -> None:
    """All methods over frames, thin and grey but for the named ones and controls."""
    last = max(dense)
    named = _named(methods, metric, last)
    ends: list[tuple[float, str, str]] = []

    def line(points: Points, values: Sequence[float], label: str | None, **looks: Any) -> None:
        # A line through one number of frames is seen by its mark alone.
        axes.plot(list(points), values, **looks if len(points) > 1 else {"marker": "."} | looks)
        if label is not None and last in points:
            ends.append((values[-1], label, looks["color"]))

    for name, points in methods.items():
        values = [metric.speedup(row) for row in points.values()]
        if name in beyond:
            continue
        if name in named:
            width, order = (2, 4) if name == OURS else (1.1, 3)
            looks = {"linestyle": HALVES.get(name, "-")} | LOOKS[kind(name)]
            line(points, values, named[name], linewidth=width, markersize=2.6, zorder=order, **looks)
        elif kind(name) == "control":
            line(points, values, None, color=GREY, linewidth=0.7, linestyle=DASHED)
        else:
            line(points, values, None, **REST)
    if metric.bounded:
        line(dense, [row.ceiling for row in dense.values()], "vision only", **CEILING)
        if ours := methods.get(OURS):
            bounds = [row.bound_speedup for row in ours.values()]
            line(ours, bounds, f"bound of {OURS}", color=BLACK, linestyle="-.", linewidth=0.9)
    axes.axhline(1, color=BLACK, linewidth=0.6, zorder=0)
    axes.set_xscale("log", base=2)
    axes.set_xticks(list(dense), [str(frames) for frames in dense])
    axes.set_xticks([], minor=True)
    axes.margins(x=0.09)
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axes.set_xlabel("frames")
    axes.set_title(metric.title)
    _off_scale(axes, metric, {name: methods[name] for name in beyond})
    _name_ends(axes, ends)


def _off_scale(axes: Axes, metric: Metric, methods: Mapping[str, Points]) -> None:
    """What lies above the panel, as numbers at its upper edge."""
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.13 * len(methods) * (high - low))
    for place, (name, points) in enumerate(methods.items()):
        height = 1 - 0.1 * place
        looks: dict[str, Any] = {"fontsize": 6, "color": colour(name), "va": "top"}
        for frames, row in points.items():
            text = f"↑ {metric.speedup(row):.1f}"
            axes.text(frames, height, text, transform=axes.get_xaxis_transform(), ha="center", **looks)
        axes.annotate(name, (1.08, height), xycoords="axes fraction", **looks)


def _name_ends(axes: Axes, ends: Sequence[tuple[float, str, str]]) -> None:
    """Each named line's name at the right of the panel, at its end's height or as near as the others leave room."""
    low, high = axes.get_ylim()
    heights = [(value - low) / (high - low) for value, *_ in ends]
    for height, place, (_, name, shade) in zip(heights, spread(heights, LABEL_GAP), ends, strict=True):
        axes.annotate(
            name, (1, height), (1.08, place), "axes fraction", "axes fraction", fontsize=6, color=shade,
            va="center", annotation_clip=False,
            arrowprops={"arrowstyle": "-", "linewidth": 0.4, "color": shade, "shrinkA": 0, "shrinkB": 0,
                        "relpos": (0, 0.5)},
        )  # fmt: skip


def _ranking(
    axes: Axes, metric: Metric, methods: Mapping[str, Points], dense: Points, beyond: Sequence[str], last: int
) -> None:
    """A row a method at the most frames: median and quartiles, its own bound, and from how many frames on it pays."""
    edge = axes.get_yaxis_transform()

    def write(column: float, place: float, text: str) -> None:
        axes.text(1.09 + 0.22 * column, place, text, transform=edge, fontsize=6, ha="center", va="center_baseline")

    write(0, -1.1, "speed-up")
    write(1, -1.1, "pays from")
    for place, (name, points) in enumerate(methods.items()):
        axes.axhline(place, color=FAINT, linewidth=0.3, zorder=0)
        if last not in points:
            write(0.5, place, "not measured")
            continue
        row, pays = points[last], metric.pays_from(points)
        write(0, place, f"{metric.speedup(row):.2f}")
        write(1, place, str(pays or "\N{EN DASH}"))
        if name in beyond:
            axes.plot(0.99, place, marker=">", markersize=3, color=colour(name), transform=edge)
            continue
        quartiles = [metric.speedup(row, "_high"), metric.speedup(row, "_low")]
        axes.plot(quartiles, [place, place], color=colour(name), linewidth=0.9)
        axes.plot(metric.speedup(row), place, markersize=3.2, **LOOKS[kind(name)])
        if metric.bounded:
            axes.plot(row.bound_speedup, place, marker="|", markersize=6, markeredgewidth=0.8, color=BLACK)
    axes.axvline(1, color=BLACK, linewidth=0.6, zorder=0)
    if metric.bounded:
        axes.axvline(dense[last].ceiling, zorder=0, **CEILING)
    axes.set_ylim(max(LEAST_ROWS, len(methods)) - 0.4, -0.8)
    axes.set_yticks(range(len(methods)), list(methods), fontsize=6.5)
    for label in axes.get_yticklabels():
        label.set_color(colour(label.get_text()))
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(f"speed-up over dense at {last} frames")

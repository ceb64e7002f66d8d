"""The crossover plot: from how many frames on pruning pays."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sharpv.metrics.profiling.results import Compared, compared, sections

GAP = 0.042
"""Least distance of two names beside a panel, as a share of its height."""
CONTROLS = ("random", "uniform", "downsample", "fewer_frames")
INSIDE = ("fastv", "vtw", "framefusion", "prunevid", "dycoke")
"""Those with a memory stage, but for SharpV."""


def draw(rows: list[dict[str, str]], base: Path) -> str:
    """Speed-up over dense against frames, TTFT and decode, a file (png, svg) per section; says what was written."""
    if find_spec("matplotlib") is None:
        return "; no plot, matplotlib is not installed"
    from sharpv.reports.figures.style import paper_style, save

    written = []
    for index, (settings, group) in enumerate(sections(rows)):
        blocks = compared(group)
        title = f"{settings['model']}, {settings['layers']} layers, {settings['attention']}, {settings['hardware']}"
        with paper_style():
            written += save(_figure(blocks, title), base.with_name(f"{base.name}{f'_{index}' if index else ''}"))
    return f", {', '.join(path.name for path in written)}"


def look(name: str) -> dict[str, Any]:
    """SharpV and its halves stand out; the others by where they act, controls dashed."""
    from sharpv.reports.figures import style

    if name.startswith("sharpv"):
        width, dashes = {"sharpv": (2.2, "-"), "sharpv_visual": (1.2, "--"), "sharpv_memory": (1.2, ":")}[name]
        return {"color": style.VERMILION, "linewidth": width, "linestyle": dashes, "zorder": 3}
    if name in CONTROLS:
        return {"color": style.GREY, "linewidth": 0.8, "linestyle": "--"}
    return {"color": style.BLUE if name in INSIDE else style.GREEN, "linewidth": 0.8}


def _figure(blocks: dict[int, list[Compared]], title: str):
    from matplotlib.lines import Line2D

    from sharpv.reports.figures.style import BLACK, FAINT, PAGE, new_figure

    figure = new_figure(PAGE, 4.2)
    figure.suptitle(title, fontsize=8.5)
    panels = figure.subplots(1, 2)
    lines: dict[str, list[tuple[int, Compared]]] = {}
    for frames, block in blocks.items():
        for row in block:
            lines.setdefault(row.name, []).append((frames, row))
    lines.pop("dense")
    ends: list[list[tuple[float, str, str]]] = [[], []]
    for name, points in lines.items():
        counts = [count for count, _ in points]
        for panel, end, value in zip(panels, ends, ("speedup", "decode_speedup"), strict=True):
            values = [getattr(row, value) for _, row in points]
            panel.plot(counts, values, marker="o", markersize=2, **look(name))
            end.append((values[-1], name, look(name)["color"]))
    if "sharpv" in lines:
        counts = [count for count, _ in lines["sharpv"]]
        for value, dashes, label in (("bound_speedup", "-.", "bound of sharpv"), ("ceiling", ":", "vision only")):
            values = [getattr(row, value) for _, row in lines["sharpv"]]
            panels[0].plot(counts, values, color=BLACK, linestyle=dashes, linewidth=1)
            ends[0].append((values[-1], label, BLACK))
    for panel, end, what in zip(panels, ends, ("TTFT", "decoding"), strict=True):
        panel.axhline(1, color=FAINT, linewidth=0.8, zorder=0)
        panel.set_xscale("log", base=2)
        panel.set_xticks(list(blocks), [str(frames) for frames in blocks])
        panel.set_xticks([], minor=True)
        panel.set_xlabel("frames")
        panel.set_title(f"speed-up over dense, {what}")
        _name_ends(panel, end)
    kinds = {"sharpv": "SharpV", "fastv": "acts inside the model", "evs": "acts before it", "uniform": "control"}
    handles = [Line2D([], [], label=text, **look(name)) for name, text in kinds.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, fontsize=6.5)
    return figure


def _name_ends(panel: Any, ends: list[tuple[float, str, str]]) -> None:
    """Each line's name at the right of the panel, at its end's height or as near as the others leave room."""
    low, high = panel.get_ylim()
    ordered = sorted(ends)
    heights = [(value - low) / (high - low) for value, *_ in ordered]
    names, last = spread(heights, GAP), len(heights) - 1
    names = [min(max(name, place * GAP), 1 - (last - place) * GAP) for place, name in enumerate(names)]
    for height, name_height, (_, name, shade) in zip(heights, names, ordered, strict=True):
        panel.annotate(
            name, (1, height), (1.09, name_height), "axes fraction", "axes fraction", fontsize=5.5, color=shade,
            va="center", annotation_clip=False,
            arrowprops={"arrowstyle": "-", "linewidth": 0.3, "color": shade, "shrinkA": 0, "shrinkB": 0,
                        "relpos": (0, 0.5)},
        )  # fmt: skip


def spread(heights: list[float], gap: float) -> list[float]:
    """Ascending heights moved apart to at least `gap`, each group of those that touch staying centred."""
    groups: list[tuple[float, int]] = []
    for height in heights:
        groups.append((height, 1))
        while len(groups) > 1 and groups[-1][0] - groups[-2][0] < gap * (groups[-1][1] + groups[-2][1]) / 2:
            (upper, more), (lower, fewer) = groups.pop(), groups.pop()
            groups.append(((upper * more + lower * fewer) / (more + fewer), more + fewer))
    return [centre + gap * (place - (count - 1) / 2) for centre, count in groups for place in range(count)]

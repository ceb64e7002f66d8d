"""The crossover plot: from how many frames on pruning pays."""

from importlib.util import find_spec
from pathlib import Path

from sharpv.metrics.profiling.results import Compared, compared, sections

BOLD = ("sharpv", "fewer_frames", "random")


def draw(rows: list[dict[str, str]], base: Path) -> str:
    """Speed-up over dense against frames, TTFT and decode, a file (png, svg) per section; says what was written."""
    if find_spec("matplotlib") is None:
        return "; no plot, matplotlib is not installed"
    written = []
    for index, (settings, group) in enumerate(sections(rows)):
        suffix = f"_{index}" if index else ""
        blocks = compared(group)
        title = f"{settings['model']}, {settings['layers']} layers, {settings['attention']}, {settings['hardware']}"
        figure = _figure(blocks, title)
        for kind in ("png", "svg"):
            path = base.with_name(f"{base.name}{suffix}.{kind}")
            figure.savefig(path, dpi=150, metadata={"Date": None} if kind == "svg" else None)
            written.append(path.name)
    return f", {', '.join(written)}"


def _figure(blocks: dict[int, list[Compared]], title: str):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 6), layout="constrained")
    figure.suptitle(title, fontsize=10)
    panels = figure.subplots(1, 2)
    lines: dict[str, list[tuple[int, Compared]]] = {}
    for frames, block in blocks.items():
        for row in block:
            lines.setdefault(row.name, []).append((frames, row))
    lines.pop("dense")
    for index, (name, points) in enumerate(lines.items()):
        look = {
            "label": name,
            "marker": "osv^D"[index // 10],
            "color": f"C{index % 10}",
            "linewidth": 2.5 if name in BOLD else 1,
            "markersize": 4,
        }
        counts = [count for count, _ in points]
        panels[0].plot(counts, [row.speedup for _, row in points], **look)
        panels[1].plot(counts, [row.decode_speedup for _, row in points], **look)
    if "sharpv" in lines:
        counts = [count for count, _ in lines["sharpv"]]
        bound = [row.bound_speedup for _, row in lines["sharpv"]]
        panels[0].plot(counts, bound, "k--", linewidth=1.5, label="bound of sharpv")
        ceiling = [row.ceiling for _, row in lines["sharpv"]]
        panels[0].plot(counts, ceiling, "k:", linewidth=1.5, label="vision only")
    for panel, what in zip(panels, ("TTFT", "time per decoded token"), strict=True):
        panel.axhline(1, color="grey", linewidth=0.8)
        panel.set_xscale("log", base=2)
        panel.set_xticks(list(blocks), [str(frames) for frames in blocks])
        panel.set_xlabel("frames")
        panel.set_ylabel(f"speed-up over dense, {what}")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center", fontsize=8)
    return figure

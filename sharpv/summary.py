"""A generation's report for a person: a table, and a picture of what was kept.

Shape suffixes: T frames, P tokens per frame, h and w rows and columns of a frame's grid.
"""

import io
import math
from itertools import groupby
from typing import Any

import numpy as np
import torch
from PIL import Image

from sharpv.tokens import VideoTokens

LINES = 16
"""Of frames, and of layers, at most; more are put together."""


def table(report: Any) -> str:
    """Tokens seen and kept per frame, KV read per group of layers, KV bytes and seconds; and a memory stage that never
    acted, with what it measured."""
    layout, kept_T = report.described(), kept_per_frame(report)
    tokens = layout.dense_visual // layout.frames
    frames = [
        (_span(first, last), (last - first) * tokens, sum(kept_T[first:last]), (last - first) * tokens)
        for first, last in _even(layout.frames)
    ]
    read = _read_per_layer(report)
    runs = [list(run) for _, run in groupby(range(layout.depth), key=lambda layer: read[layer])]
    groups = [(run[0], run[-1] + 1) for run in runs] if len(runs) <= LINES else _even(layout.depth)
    layers = [
        (_span(first, last, 0), layout.visual, sum(read[first:last]) / (last - first), layout.visual)
        for first, last in groups
    ]
    lines = [
        f"{layout.visual} of {layout.dense_visual} visual tokens fed: VR {report.vr:.1%}; of their KV {report.mr:.1%} "
        f"read: MR; VR x MR {report.token_budget:.1%}",
        *_columns(("frame", "seen", "kept", "VR"), frames),
        *_columns(("layer", "fed", "KV read", "MR"), layers),
        *([_stored(report)] if report.kv_bytes else []),
        *_seconds(report, len(report.reads)),
    ]
    if report.memory is not None and not acted(report):
        lines.append(_idle(report))
    return "\n".join(lines)


def tables(report: Any) -> str:
    """The table of each video of a report of several, and what they have in common."""
    parts = [f"video {place} of {len(report.videos)}\n{table(one)}" for place, one in enumerate(report.videos, 1)]
    common = [_stored(report), *_seconds(report, len(report.videos[0].reads))]
    return "\n\n".join([*parts, "\n".join(common)])


def _stored(report: Any) -> str:
    return f"KV cache: {report.kv_bytes / 2**20:.1f} MiB after prefill, text included"


def acted(report: Any) -> bool:
    """Whether the memory stage took any visual row from any layer or step."""
    fed = report.described().visual
    return any(rows != fed for part in (report.visual_rows, report.visual_kv, *report.reads) for rows in part)


def kept_per_frame(report: Any) -> list[float]:
    """Rows fed per frame; a row made of several tokens is shared among their frames."""
    layout = report.described()
    tokens = layout.dense_visual // layout.frames
    if layout.selection is None:
        return [tokens] * layout.frames
    return layout.selection.per_frame(VideoTokens(torch.empty(layout.frames, tokens, 0), layout.grid))


def film_strip(report: Any, frames: Any, title: str = "") -> Image.Image:
    """The frames with kept patches bright and dropped ones dimmed, and a bar a frame, the share kept.

    frames: uint8 RGB of the video that was given, (T, H, W, 3) or a list of pictures; where the model takes several
    frames as one, the first of them is shown. Patches that went into a merged row count as dropped. ValueError for
    frames that are not those of the video, or without matplotlib.
    """
    try:
        from sharpv.reports.figures.film_strip import film_strip as drawn
        from sharpv.reports.figures.style import paper_style
    except ImportError as error:
        raise ValueError(f"a film strip needs matplotlib ({error}): pip install matplotlib") from error
    layout = report.described()
    frames_THWC = np.stack([np.asarray(frame) for frame in frames])
    together = -(-len(frames_THWC) // layout.frames)
    if not together or -(-len(frames_THWC) // together) != layout.frames:
        raise ValueError(f"{len(frames_THWC)} frames, but the model saw {layout.frames}: pass those that it was given")
    kept_N = torch.ones(layout.dense_visual, dtype=torch.bool)
    if layout.selection is not None:
        kept_N = layout.selection.represented_N(layout.dense_visual)
    kept_Thw = kept_N.view(layout.frames, *layout.grid).numpy()
    with paper_style(), io.BytesIO() as file:
        drawn(frames_THWC[::together], {"kept": kept_Thw}, title).savefig(file, format="png", dpi=220)
        return Image.open(file).convert("RGB")


def _read_per_layer(report: Any) -> list[float]:
    """Visual rows whose KV a step reads in each layer, on average; in the first step where none was decoded."""
    steps = report.reads or [report.visual_kv]
    return [sum(rows) / len(steps) for rows in zip(*steps, strict=True)]


def _even(count: int) -> list[tuple[int, int]]:
    """Runs that cover so many places, at most LINES of them, as first and behind the last."""
    step = math.ceil(count / LINES)
    return [(first, min(first + step, count)) for first in range(0, count, step)]


def _span(first: int, stop: int, base: int = 1) -> str:
    return str(first + base) if stop - first == 1 else f"{first + base}-{stop - 1 + base}"


def _columns(heads: tuple[str, ...], rows: list[tuple[str, float, float, float]]) -> list[str]:
    shares = [kept / whole if whole else 0.0 for *_, kept, whole in rows]
    cells = [
        (place, _number(of), _number(kept), f"{share:.1%}")
        for (place, of, kept, _), share in zip(rows, shares, strict=True)
    ]
    return ["{:>9}{:>9}{:>9}{:>9}".format(*line) for line in (heads, *cells)]


def _number(value: float) -> str:
    return f"{value:.0f}" if math.isclose(value, round(value)) else f"{value:.1f}"


def _seconds(report: Any, steps: int) -> list[str]:
    seconds = report.seconds
    if "prefill" not in seconds:
        return []
    later = f", {seconds['decode']:.3f} for each of {steps} later ones" if "decode" in seconds else ""
    tower = "vision tower left out, which ran before" if report.encoded_before else "vision tower included"
    return [f"seconds: {seconds['prefill']:.3f} to the first token, {tower}{later}"]


def _idle(report: Any) -> str:
    measured = list(report.state.values()) if isinstance(report.state, dict) else []
    numbers = [value for value in measured if isinstance(value, float)]
    seen = f" It measured {min(numbers):.3f} to {max(numbers):.3f} in the layers." if numbers else ""
    return (
        f"The memory stage never acted: {report.memory!r} left every layer all that was fed.{seen} Give it another "
        "setting, or a calibrated one: Pruner.of(name, model=...)"
    )

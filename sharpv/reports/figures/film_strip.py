"""Fig. 1: a video's frames with kept patches bright and dropped ones dimmed, and the share kept of every frame.

Shape suffixes: T frames, H height, W width, C colours, h and w patches down and across, S frames shown.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from textwrap import fill, shorten
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from sharpv.reports.figures.style import BLUE, FAINT, GREY, PAGE, SKY, new_figure

GAP = 0.06
LABEL_INCHES, BAR_INCHES, ROW_GAP_INCHES, TITLE_INCHES = 1.22, 0.3, 0.1, 0.3
STRIP_GAP_INCHES, BOTTOM_INCHES = 0.08, 0.12
DIMMED, FLOOR = 0.22, 14
NAME_LETTERS, CAPTION_LETTERS = 19, 24
"""What fits beside the pictures in one line."""


@dataclass(frozen=True)
class Strip:
    """One video: its frames, name -> bool (T, h, w) of what each pruner keeps, what is written beside them, and the
    frames' times where they are known."""

    frames_THWC: np.ndarray
    kept: Mapping[str, np.ndarray]
    title: str = ""
    captions: Mapping[str, str] = field(default_factory=dict)
    seconds: Sequence[float] = ()


def film_strip(
    frames_THWC: np.ndarray,
    kept: Mapping[str, np.ndarray],
    title: str = "",
    captions: Mapping[str, str] | None = None,
    shown: int = 8,
    width: float = PAGE,
    seconds: Sequence[float] = (),
) -> Figure:
    """The video as it is, then one band a pruner: its frames, and under them a bar a frame, the share of patches kept.

    frames_THWC: uint8 RGB. kept: name -> bool (T, h, w), True = kept; patches cover the frame evenly. At most `shown`
    frames are drawn, evenly spaced, each above the bars of the frames it stands for; bars are drawn for all frames.
    captions: a second line under a pruner's name, such as its answer. width: inches. seconds: when each frame is shown,
    where that is known. Draw under `paper_style`.
    ValueError for masks that do not fit the frames.
    """
    return film_strips([Strip(frames_THWC, kept, title, captions or {}, seconds)], shown, width)


def film_strips(strips: Sequence[Strip], shown: int = 8, width: float = PAGE) -> Figure:
    """Film strips of several videos below each other, each as `film_strip` draws it."""
    for strip in strips:
        _check(strip.frames_THWC, strip.kept, shown)
    page = _Page(width, sum(_height(strip, shown, width) for strip in strips) + BOTTOM_INCHES)
    for strip in strips:
        _draw(page, strip, shown)
    return page.figure


class _Page:
    """A figure that is filled from the top down."""

    def __init__(self, width: float, height: float):
        self.figure, self.height, self.top = new_figure(width, height), height, 0.0
        self.left = LABEL_INCHES / width
        self.figure.set_layout_engine("none")

    def band(self, tall: float, columns: int) -> Axes:
        """The next so many inches, right of the labels, a unit a column."""
        self.top += tall
        corner = (self.left, 1 - self.top / self.height)
        axes = self.figure.add_axes((*corner, 1 - self.left, tall / self.height), autoscale_on=False)
        axes.set_axis_off()
        axes.set_xlim(0, columns)
        return axes


def _picture_height(strip: Strip, shown: int, width: float) -> float:
    count, high, wide, _ = strip.frames_THWC.shape
    return (width - LABEL_INCHES) / min(shown, count) * (1 - GAP) * high / wide


def _height(strip: Strip, shown: int, width: float) -> float:
    high = _picture_height(strip, shown, width)
    return TITLE_INCHES + high + len(strip.kept) * (ROW_GAP_INCHES + high + BAR_INCHES) + STRIP_GAP_INCHES


def _draw(page: _Page, strip: Strip, shown: int) -> None:
    count = len(strip.frames_THWC)
    columns, high = min(shown, count), _picture_height(strip, shown, page.figure.get_figwidth())
    starts_S = np.arange(columns) * count // columns
    ends_S = np.append(starts_S[1:], count)
    shown_S = (starts_S + ends_S - 1) // 2
    title_height = 1 - (page.top + 0.06) / page.height
    page.figure.text(0.003, title_height, strip.title, va="top", fontsize=8.5, fontweight="bold")
    page.top += TITLE_INCHES
    pictures = page.band(high, columns)
    for column, frame in enumerate(shown_S):
        _picture(pictures, column, strip.frames_THWC[frame])
        time = f"  {strip.seconds[frame]:.1f} s" if strip.seconds else ""
        pictures.text(column, 1.04, f"{frame + 1}{time}", fontsize=6, color=GREY, va="bottom")
    _label(pictures, "Video", f"{count} frames")
    for name, kept_Thw in strip.kept.items():
        page.top += ROW_GAP_INCHES
        pictures, bars = page.band(high, columns), page.band(BAR_INCHES, columns)
        for column, frame in enumerate(shown_S):
            _picture(pictures, column, dim_dropped(strip.frames_THWC[frame], kept_Thw[frame]))
            _outline(pictures, column, kept_Thw[frame])
        share_T = kept_Thw.mean((1, 2))
        _bars(bars, share_T, starts_S, ends_S, shown_S)
        _label(pictures, name, f"{share_T.mean():.0%} kept", strip.captions.get(name, ""))
    page.top += STRIP_GAP_INCHES


def dim_dropped(frame_HWC: np.ndarray, kept_hw: np.ndarray) -> np.ndarray:
    """The frame, uint8, with its dropped patches dark and grey; patch (i, j) covers an even share of the frame."""
    kept_HW1 = _per_pixel(kept_hw, frame_HWC.shape[:2])[..., None]
    grey_HW1 = frame_HWC.mean(-1, keepdims=True)
    dimmed_HWC = np.broadcast_to(DIMMED * grey_HW1 + FLOOR, frame_HWC.shape)
    return np.where(kept_HW1, frame_HWC, dimmed_HWC).astype(np.uint8)


def _per_pixel(kept_hw: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    rows = np.arange(size[0]) * kept_hw.shape[0] // size[0]
    columns = np.arange(size[1]) * kept_hw.shape[1] // size[1]
    return kept_hw[rows][:, columns]


def _picture(axes: Axes, column: int, frame_HWC: np.ndarray) -> None:
    axes.imshow(frame_HWC, extent=(column, column + 1 - GAP, 0, 1), aspect="auto")


def _outline(axes: Axes, column: int, kept_hw: np.ndarray) -> None:
    """A thin line where kept meets dropped, so that a kept dark patch is not taken for a dropped one."""
    high, wide = kept_hw.shape
    padded = np.pad(kept_hw, 1).astype(int)
    across, down = np.argwhere(np.diff(padded[:, 1:-1], axis=0)), np.argwhere(np.diff(padded[1:-1], axis=1))
    step_x, step_y = (1 - GAP) / wide, 1 / high
    lines = [[(column + j * step_x, 1 - i * step_y), (column + (j + 1) * step_x, 1 - i * step_y)] for i, j in across]
    lines += [[(column + j * step_x, 1 - i * step_y), (column + j * step_x, 1 - (i + 1) * step_y)] for i, j in down]
    axes.add_collection(LineCollection(lines, colors="white", linewidths=min(0.5, 4 / wide), clip_on=False))


def _bars(axes: Axes, share_T: np.ndarray, starts_S: np.ndarray, ends_S: np.ndarray, shown_S: np.ndarray) -> None:
    axes.set_ylim(-0.62, 1.12)
    for column, (start, end) in enumerate(zip(starts_S, ends_S, strict=True)):
        wide = (1 - GAP) / (end - start)
        left_B, thick = column + wide * np.arange(end - start), wide * (0.94 if end - start > 1 else 1)
        axes.bar(left_B, 1, width=thick, align="edge", color=FAINT, alpha=0.45, linewidth=0)
        shades = [BLUE if frame == shown_S[column] else SKY for frame in range(start, end)]
        axes.bar(left_B, share_T[start:end], width=thick, align="edge", color=shades, linewidth=0)
        share = share_T[shown_S[column]]
        axes.text(column + (1 - GAP) / 2, -0.08, f"{share:.0%}", fontsize=6, ha="center", va="top")


def _label(axes: Axes, name: str, *lines: str) -> None:
    text = "\n".join(shorten(line, CAPTION_LETTERS, placeholder=" …") for line in lines if line)
    parts = name.replace(" (", "\n(", 1).split("\n") if len(name) > NAME_LETTERS else [name]
    written = "\n".join(fill(part, NAME_LETTERS) for part in parts)
    _beside(axes, 0.56, written, va="bottom", fontsize=7.5, linespacing=1.0)
    _beside(axes, 0.5, text, va="top", fontsize=6.5, color=GREY)


def _beside(axes: Axes, height: float, text: str, **looks: Any) -> None:
    axes.annotate(text, (0, height), xytext=(-4, 0), textcoords="offset points", ha="right", **looks)


def _check(frames_THWC: np.ndarray, kept: Mapping[str, np.ndarray], shown: int) -> None:
    if frames_THWC.ndim != 4 or frames_THWC.shape[-1] != 3 or frames_THWC.dtype != np.uint8 or shown < 1:
        raise ValueError(f"frames {frames_THWC.shape} {frames_THWC.dtype}: pass uint8 (T, H, W, 3), and shown >= 1")
    for name, kept_Thw in kept.items():
        if kept_Thw.ndim != 3 or len(kept_Thw) != len(frames_THWC) or kept_Thw.dtype != bool:
            raise ValueError(
                f"mask of {name!r} is {kept_Thw.dtype} {kept_Thw.shape}: pass bool ({len(frames_THWC)}, h, w)"
            )

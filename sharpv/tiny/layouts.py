"""How a training video is shown: as real VideoLLMs see videos, in any number of frames and any grids, never pruned.

Shape suffixes: B batch, T frames of the scene, F frames shown, H and W a frame's grid, D width, N tokens shown.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from sharpv.tiny.scenes import BEATS, GRID

FRAMES = {1: 0.05, 2: 0.1, 3: 0.12, 4: 0.22, 5: 0.13, 6: 0.15, 7: 0.08, 8: 0.15}
SIDES = (3, 4, 4, 4, 5, 5, 6, 6, 7)
FINE = 16
"""Tokens a frame from which on small things such as dots can be told."""
OWN_GRIDS = 0.8
"""Share of videos whose frames have a grid each, as those have that slow-fast models show; else one for all."""
CUT = 0.25
"""Share of grids with a border cut off, where they are large enough."""
AVERAGED = 0.5
"""Share of smaller grids that are averages of cells, else bilinear."""


@dataclass(frozen=True)
class Frame:
    """A frame shown: its beat; the grid that it is resized to, bilinearly as LLaVA-OneVision pools or by averages as
    LLaVA-NeXT-Video and PLLaVA pool; and the rows and columns of it that are left where a border was padding, as
    LLaVA-OneVision's unpadding cuts."""

    beat: int
    grid: tuple[int, int] = (GRID, GRID)
    rows: tuple[int, int] = (0, GRID)
    columns: tuple[int, int] = (0, GRID)
    averaged: bool = False

    @property
    def whole(self) -> bool:
        """Whether nothing is cut off and the grid is fine enough for small things."""
        height, width = self.grid
        return (self.rows, self.columns) == ((0, height), (0, width)) and height * width >= FINE

    def of(self, features_BTHWD: torch.Tensor) -> torch.Tensor:
        """The tokens (B, N, D) of this frame of videos."""
        maps_BDHW = features_BTHWD[:, self.beat].permute(0, 3, 1, 2)
        if self.averaged:
            maps_BDHW = functional.adaptive_avg_pool2d(maps_BDHW, self.grid)
        elif self.grid != tuple(maps_BDHW.shape[2:]):
            maps_BDHW = functional.interpolate(maps_BDHW, size=self.grid, mode="bilinear")
        return maps_BDHW[:, :, slice(*self.rows), slice(*self.columns)].flatten(2).transpose(1, 2)


@dataclass(frozen=True)
class Shown:
    """The frames shown of a video, in order."""

    frames: tuple[Frame, ...] = tuple(Frame(beat) for beat in range(BEATS))

    @property
    def beats(self) -> tuple[int, ...]:
        return tuple(frame.beat for frame in self.frames)

    @property
    def whole_beats(self) -> tuple[int, ...]:
        """The beats at which everything can be seen, small things too."""
        return tuple(frame.beat for frame in self.frames if frame.whole)

    def of(self, features_BTHWD: torch.Tensor) -> torch.Tensor:
        """The tokens (B, N, D) of videos shown this way."""
        return torch.cat([frame.of(features_BTHWD) for frame in self.frames], 1)


def sample_shown(rng: np.random.Generator, plain: float) -> Shown:
    """A way to show a batch of videos; `plain` is the share of those shown as the benchmarks do."""
    if rng.random() < plain:
        return Shown()
    count = int(rng.choice(list(FRAMES), p=list(FRAMES.values())))
    beats = sorted(rng.choice(BEATS, count, replace=False).tolist())
    own = rng.random() < OWN_GRIDS
    same = _sample_layout(rng)
    return Shown(tuple(Frame(beat, *(_sample_layout(rng) if own else same)) for beat in beats))


def _sample_layout(rng: np.random.Generator) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int], bool]:
    """A grid, the rows and columns of it that are left, and whether its cells are averages."""
    height, width = (int(side) for side in rng.choice(SIDES, 2))
    rows, columns = (0, height), (0, width)
    if rng.random() < CUT:
        cut = int(rng.integers(1, 3))
        if rng.random() < 0.5 and height > 4:
            rows = (cut // 2, height - (cut + 1) // 2)
        elif width > 4:
            columns = (cut // 2, width - (cut + 1) // 2)
    averaged = max(height, width) <= GRID and rng.random() < AVERAGED
    return (height, width), rows, columns, bool(averaged)

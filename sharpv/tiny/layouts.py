"""How a training video is shown: as real VideoLLMs see videos, in any number of frames and any grid, never pruned.

Shape suffixes: B batch, T frames of the scene, F frames shown, H and W the scene's grid, D width, N tokens shown.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from sharpv.tiny.scenes import BEATS, GRID

FRAMES = {1: 0.05, 2: 0.1, 3: 0.12, 4: 0.22, 5: 0.13, 6: 0.15, 7: 0.08, 8: 0.15}
SIDES = (3, 4, 5, 6, 6, 6, 7)
FINE = 20
"""Tokens a frame from which on small things such as dots can be told."""


@dataclass(frozen=True)
class Shown:
    """The frames shown, ascending; the grid that each is resized to, bilinearly as LLaVA-OneVision pools; and the rows
    and columns of it that are left where a border was padding, as its unpadding cuts."""

    beats: tuple[int, ...] = tuple(range(BEATS))
    grid: tuple[int, int] = (GRID, GRID)
    rows: tuple[int, int] = (0, GRID)
    columns: tuple[int, int] = (0, GRID)

    @property
    def whole(self) -> bool:
        """Whether nothing is cut off and the grid is fine enough for small things."""
        height, width = self.grid
        return (self.rows, self.columns) == ((0, height), (0, width)) and height * width >= FINE

    def of(self, features_BTHWD: torch.Tensor) -> torch.Tensor:
        """The tokens (B, N, D) of videos shown this way."""
        frames = features_BTHWD[:, list(self.beats)]
        if self.grid != tuple(frames.shape[2:4]):
            flat_XDHW = frames.flatten(0, 1).permute(0, 3, 1, 2)
            flat_XDHW = functional.interpolate(flat_XDHW, size=self.grid, mode="bilinear")
            frames = flat_XDHW.permute(0, 2, 3, 1).unflatten(0, frames.shape[:2])
        return frames[:, :, slice(*self.rows), slice(*self.columns)].flatten(1, 3)


def sample_shown(rng: np.random.Generator, plain: float) -> Shown:
    """A way to show a batch of videos; `plain` is the share of those shown as the benchmarks do."""
    if rng.random() < plain:
        return Shown()
    count = int(rng.choice(list(FRAMES), p=list(FRAMES.values())))
    beats = tuple(sorted(rng.choice(BEATS, count, replace=False).tolist()))
    height, width = (int(side) for side in rng.choice(SIDES, 2))
    rows, columns = (0, height), (0, width)
    if rng.random() < 0.15:
        cut = int(rng.integers(1, 3))
        if rng.random() < 0.5 and height > 4:
            rows = (cut // 2, height - (cut + 1) // 2)
        elif width > 4:
            columns = (cut // 2, width - (cut + 1) // 2)
    return Shown(beats, (height, width), rows, columns)

"""Trivial controls: what any method must beat. Each can match the budget of a reference method, sample by sample.

Shape suffixes: T frames, P tokens per frame, D width, K kept rows, N = T * P.
"""

import math
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch.nn import functional

from sharpv.checks import require_fields
from sharpv.pruners.base import VisualPruner
from sharpv.tokens import Selection, VideoTokens


@dataclass
class Control(VisualPruner):
    """A budget: a fixed `keep_ratio` of the tokens, or without one that of `reference` on the same sample."""

    reference: VisualPruner | None = None
    keep_ratio: float | None = None

    def __post_init__(self) -> None:
        require_fields(self)
        if self.keep_ratio is not None:
            if not 0 < self.keep_ratio <= 1:
                raise ValueError(f"keep_ratio={self.keep_ratio} must lie in (0, 1]")
            # A share given to a row whose configuration names a reference is meant.
            self.reference = None
        elif self.reference is None:
            raise ValueError("a control takes keep_ratio=<share kept> or reference=<visual pruner>, got neither")
        self.may_keep_all = self.keep_ratio == 1 or (self.reference is not None and self.reference.may_keep_all)
        self.tower_layers = self.reference.tower_layers if self.reference else None
        self.reads_question = self.reference is not None and self.reference.reads_question

    def requested_ratio(self, frames: int) -> float | None:
        return self.keep_ratio if self.reference is None else self.reference.requested_ratio(frames)

    def at_budget(self, share: float, frames: int) -> Self:
        return replace(self, reference=None, keep_ratio=share)

    def counts(self, video: VideoTokens) -> list[int]:
        """Whole tokens per frame that the budget allows; the total is exact, fractions go to the earliest frames."""
        if self.keep_ratio is not None:
            ideal_T = torch.full((video.frames,), self.keep_ratio * video.tokens_per_frame, dtype=torch.float64)
        elif self.reference is not None:
            ideal_T = torch.tensor(self.reference.select(video).per_frame(video), dtype=torch.float64)
        edges_T = ideal_T.cumsum(0).round().long()
        return torch.diff(edges_T, prepend=edges_T.new_zeros(1)).tolist()


@dataclass
class Random(Control):
    """Random choice of tokens. per_frame=True: with the budget's count per frame (the paper's V-Random dagger);
    False: over the whole video with its total (V-Random star). Paper: SharpV, Table 4. Sorted, unique; seeded per
    sample. `seed` separates repetitions of the row.
    """

    draws = True
    per_frame: bool = True
    seed: int = 0

    def select(self, video: VideoTokens) -> Selection:
        video.require_finite()
        generator = torch.Generator().manual_seed((video.seed * 1_000_003 + self.seed) % 2**63)
        counts, tokens = self.counts(video), video.tokens_per_frame
        if self.per_frame:
            picks = [torch.randperm(tokens, generator=generator)[:n] + t * tokens for t, n in enumerate(counts)]
            kept_K = torch.cat(picks)
        else:
            kept_K = torch.randperm(video.total, generator=generator)[: sum(counts)]
        return Selection(kept_K.sort().values.to(video.device))


@dataclass
class UniformStride(Control):
    """Evenly spaced tokens of the video in raster order, with the budget's total. Sorted, unique."""

    def select(self, video: VideoTokens) -> Selection:
        video.require_finite()
        total = sum(self.counts(video))
        kept_K = ((torch.arange(total, dtype=torch.float64) + 0.5) * video.total / max(total, 1)).long()
        return Selection(kept_K.to(video.device))


@dataclass
class FewerFrames(Control):
    """Whole frames at even distance, as many as the budget pays for (at least one), the rest never encoded.

    Comes in steps of a frame: takes the largest number not above the budget. Sorted, unique.
    """

    def at_budget(self, share: float, frames: int) -> Self:
        if share * frames < 1 - 1e-9:
            raise ValueError(f"one of {frames} frames is {1 / frames:.1%} of the tokens: it cannot keep {share:.1%}")
        return super().at_budget(share, frames)

    def select(self, video: VideoTokens) -> Selection:
        video.require_finite()
        offset_P = torch.arange(video.tokens_per_frame)
        kept_KP = self.encoded_frames(video)[:, None] * video.tokens_per_frame + offset_P
        return Selection(kept_KP.flatten().to(video.device))

    def encoded_frames(self, video: VideoTokens) -> torch.Tensor:
        count = max(1, sum(self.counts(video)) // video.tokens_per_frame)
        return torch.linspace(0, video.frames - 1, count, dtype=torch.float64).long()


@dataclass
class DownsampledGrid(Control):
    """Every frame's grid averaged down to a smaller one, the largest whose tokens fit the budget (at least 1 x 1).

    Comes in steps of the grid. Rows are synthetic: means of the cells that they stand for.
    """

    def select(self, video: VideoTokens) -> Selection:
        features_TPD = video.require_finite()
        height, width = self._size(video)
        if (height, width) == video.grid:
            return Selection(torch.arange(video.total, device=video.device))
        maps_TDhw = features_TPD.transpose(1, 2).unflatten(2, video.grid)
        pooled_TDhw = functional.adaptive_avg_pool2d(maps_TDhw, (height, width))
        rows_KD = pooled_TDhw.flatten(2).transpose(1, 2).flatten(0, 1)
        row_h = torch.arange(video.grid[0]) * height // video.grid[0]
        column_w = torch.arange(video.grid[1]) * width // video.grid[1]
        cell_P = (row_h[:, None] * width + column_w).flatten()
        assign_N = (torch.arange(video.frames)[:, None] * height * width + cell_P).flatten()
        origin_K = torch.full((len(rows_KD),), -1, device=video.device)
        return Selection(origin_K, rows_KD, assign_N.to(video.device))

    def _size(self, video: VideoTokens) -> tuple[int, int]:
        height, width = video.grid
        budget = sum(self.counts(video)) / video.frames
        sizes = [(h, max(1, math.floor(h * width / height))) for h in range(1, height + 1)]
        return max((size for size in sizes if size[0] * size[1] <= budget), default=(1, 1))


@dataclass
class Blind(VisualPruner):
    """Feeds no visual token at all: what the questions give away by themselves. The bottom of every comparison."""

    def select(self, video: VideoTokens) -> Selection:
        return Selection(torch.arange(0, device=video.device))

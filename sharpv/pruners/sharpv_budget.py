"""SharpV told how many tokens to keep: ours, so that it can stand at the same budget as other methods.

Shape suffixes: T frames, P tokens per frame.
"""

from dataclasses import dataclass
from typing import Literal

import torch

from sharpv.checks import require_fields
from sharpv.pruners.base import VisualPruner
from sharpv.pruners.sharpv import VisualSharpV, most_important
from sharpv.tokens import Selection, VideoTokens

NEARLY = 1e-6
"""A frame that lacks less than this of a token to be full is full: more than sums of float64 are wrong by."""


@dataclass
class SharpVBudget(VisualPruner):
    """Visual SharpV's choice within each frame, with its frames' adaptive counts scaled in proportion until they make
    the total asked for. Not in the paper, whose method sets the total itself (`VisualSharpV`).

    keep_ratio: round(keep_ratio T P) tokens stay. A frame gets no more than it has; what it cannot take goes to the
    others in proportion. Frames without motion get tokens only where all others are full, and all alike where none
    moves. spatial_weight, dissimilarity, first_frame_temporal: as in `VisualSharpV`.

    Paper: none for the budget; the rest SharpV, arXiv 2511.08003, Eqs. 1-5. Official: none released.

    Promises: sorted, unique, exact count. Raises ValueError for features that are not finite, naming the frame.
    Complexity: as `VisualSharpV`, and O(T) for each frame that is full; two read-backs, the frames' counts and the
    tokens kept.
    Deviations: where the scaled counts are fractions, their running sum is rounded, so that the total is exact.
    """

    keep_ratio: float = 0.25
    spatial_weight: float = 1.0
    dissimilarity: Literal["euclidean", "cosine"] = "euclidean"
    first_frame_temporal: Literal["spatial", "zero"] = "spatial"

    def __post_init__(self) -> None:
        require_fields(self)
        if not 0 < self.keep_ratio <= 1:
            raise ValueError(f"keep_ratio={self.keep_ratio} is the share of tokens kept; choose it in (0, 1]")
        self.may_keep_all = self.keep_ratio == 1
        self._sharpv()

    def _sharpv(self) -> VisualSharpV:
        return VisualSharpV("adaptive", self.spatial_weight, 0.0, self.dissimilarity, self.first_frame_temporal)

    def select(self, video: VideoTokens) -> Selection:
        sharpv, total = self._sharpv(), round(self.keep_ratio * video.total)
        if not total:
            raise ValueError(f"keep_ratio={self.keep_ratio} keeps none of {video.total} tokens; take a larger one")
        importance_TP, motion_TP = sharpv.importance_and_motion(video.require_finite())
        count_T = scaled(sharpv.ideal_counts(motion_TP).double().cpu(), total, video.tokens_per_frame)
        return most_important(importance_TP, count_T.to(video.device))


def scaled(weight_T: torch.Tensor, total: int, most: int) -> torch.Tensor:
    """Whole numbers in proportion to the weights (float64, on the CPU), none above `most`, that add up to `total`."""
    count_T, open_T = torch.zeros(len(weight_T), dtype=torch.long), torch.ones_like(weight_T, dtype=torch.bool)
    while open_T.any():
        weights_T = weight_T * open_T if (weight_T * open_T).any() else open_T.double()
        weights_T = weights_T / weights_T.max()
        share_T = weights_T * ((total - count_T.sum()) / weights_T.sum())
        full_T = open_T & (share_T > most - NEARLY)
        if not full_T.any():
            edges_T = (share_T.cumsum(0) + 0.5).floor().long()
            return count_T + torch.diff(edges_T, prepend=edges_T.new_zeros(1))
        count_T[full_T], open_T = most, open_T & ~full_T
    return count_T

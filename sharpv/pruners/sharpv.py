"""SharpV: per-frame adaptive selection before the model, and dropping of degraded layers' visual KV inside it.

Paper: arXiv 2511.08003 (Visual SharpV Eqs. 1-6, Memory SharpV Eq. 7); written from its text, from no repository.

Shape suffixes: T frames, P tokens per frame, D width, K kept rows, V visual rows as fed.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch.nn import functional

from sharpv.checks import require_fields
from sharpv.pruners.base import MemoryPruner, VisualPruner
from sharpv.pruners.view import KeepCache, Layer, Layout
from sharpv.tokens import Selection, VideoTokens

SMALLEST_NORM = 1e-12
"""Of a product of two norms, so that a zero vector has cosine 0."""


@dataclass
class VisualSharpV(VisualPruner):
    """Keeps, per frame, the tokens that differ most in space and time, as many as the frame has motion.

    Spatial dissimilarity S is taken against the mean of the frame's tokens, temporal dissimilarity T against the same
    place in the previous frame; importance is I = T + spatial_weight * S (high = keep).

    mode: `adaptive` keeps round(P * ||T_t||_2 / (2 sqrt(P))) tokens of frame t, possibly none; `manual` keeps tokens
    with I > threshold. spatial_weight: the paper's w. threshold: the paper's K. dissimilarity: `euclidean` distance of
    unit vectors (0..2) or `cosine`, 1 - cos (0..2). first_frame_temporal: frame 1 has no predecessor; its budget comes
    from S; `spatial` lets T_1 := S_1 enter I too, `zero` leaves T_1 = 0 there.

    Paper: SharpV, arXiv 2511.08003, Eqs. 1-6. Official: none released; written from the paper's text.

    Promises: sorted, unique. Raises ValueError for features that are not finite, naming the frame.
    Complexity: O(N D) time and memory, no attention; one read-back, the count.
    Deviations: none known; the readings that the paper leaves open are the fields. Scores are float32 whatever the
    features' dtype; rounding features to bfloat16 first moves I by up to about 4e-3, which swaps near-ties.
    """

    mode: Literal["adaptive", "manual"] = "adaptive"
    spatial_weight: float = 1.0
    threshold: float = 1.6
    dissimilarity: Literal["euclidean", "cosine"] = "euclidean"
    first_frame_temporal: Literal["spatial", "zero"] = "spatial"

    def __post_init__(self) -> None:
        require_fields(self)
        if self.spatial_weight < 0:
            raise ValueError(f"spatial_weight={self.spatial_weight} must be at least 0: it weighs a dissimilarity")
        self.may_keep_all = self.mode == "manual"
        # Neither dissimilarity is above 2.
        self.calibrates = ("threshold", 2 + 2 * abs(self.spatial_weight)) if self.mode == "manual" else None

    def select(self, video: VideoTokens) -> Selection:
        importance_TP, motion_TP = self.importance_and_motion(video.require_finite())
        if self.mode == "manual":
            return Selection((importance_TP > self.threshold).flatten().nonzero().flatten())
        return most_important(importance_TP, self.ideal_counts(motion_TP).round())

    def importance_and_motion(self, features_TPD: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """I and the temporal dissimilarity that sets a frame's budget, float32 (T, P) each, high = keep, and moving."""
        spatial_TP, temporal_TP = self.dissimilarities(features_TPD)
        first_T1 = torch.arange(len(features_TPD), device=features_TPD.device)[:, None] == 0
        motion_TP = torch.where(first_T1, spatial_TP, temporal_TP)
        if self.first_frame_temporal == "spatial":
            temporal_TP = motion_TP
        return temporal_TP + self.spatial_weight * spatial_TP, motion_TP

    def ideal_counts(self, motion_TP: torch.Tensor) -> torch.Tensor:
        """Tokens of each frame by its motion (Eq. 4), not rounded; float32 (T,)."""
        tokens = motion_TP.shape[1]
        return tokens * motion_TP.norm(dim=-1) / (2 * math.sqrt(tokens))

    def dissimilarities(self, features_TPD: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Spatial and temporal dissimilarity, float32 (T, P) each, high = different; temporal of frame 1 is 0."""
        mean_T1D = features_TPD.mean(1, keepdim=True)
        unit_TPD = functional.normalize(features_TPD, dim=-1)
        spatial_TP = self._distance(unit_TPD, functional.normalize(mean_T1D, dim=-1))
        temporal_TP = torch.zeros_like(spatial_TP)
        temporal_TP[1:] = self._distance(unit_TPD[1:], unit_TPD[:-1])
        return spatial_TP, temporal_TP

    def _distance(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        if self.dissimilarity == "cosine":
            return 1 - (a * b).sum(-1)
        return (a - b).norm(dim=-1)

    def at_budget(self, share: float, frames: int) -> None:
        """None: the video decides; `SharpVBudget` is told."""


def most_important(importance_TP: torch.Tensor, count_T: torch.Tensor) -> Selection:
    """Of each frame so many tokens of the highest importance, the earlier of equal ones first; all where there are
    fewer."""
    order_TP = importance_TP.argsort(dim=-1, descending=True, stable=True)
    ranked_TP = torch.arange(importance_TP.shape[1], device=importance_TP.device) < count_T[:, None]
    keep_TP = torch.zeros_like(ranked_TP).scatter(1, order_TP, ranked_TP)
    return Selection(keep_TP.flatten().nonzero().flatten())


@dataclass
class MemorySharpV(MemoryPruner):
    """Drops a layer's visual KV once the visual states entering it no longer resemble what was fed in (Eq. 7).

    threshold: the paper's M; a layer whose mean cosine is below it keeps no visual KV, the text KV stays.
    mean_of: `cosines` averages the per-token cosines; `states` takes the cosine of the two mean states.
    acts: `after_prefill` lets the layer's own prefill attention still see the visual keys, so that the first token
    never depends on this stage; `in_prefill` hides them there too. reencode: positions of the keys left become
    contiguous again.

    Paper: SharpV, arXiv 2511.08003, Eq. 7. Official: none released; written from the paper's text.

    Complexity: O(V D) a layer, one scalar read back.
    Deviations: the paper does not say whether prefill is affected; see `acts`.
    """

    threshold: float = 0.2
    mean_of: Literal["cosines", "states"] = "cosines"
    acts: Literal["after_prefill", "in_prefill"] = "after_prefill"
    reencode: bool = True

    may_keep_all = True

    def __post_init__(self) -> None:
        require_fields(self)

    def begin(self, layout: Layout) -> dict[int, float]:
        """Cosine per layer, filled as the layers run."""
        return {}

    def keep_cache(self, layer: Layer, state: dict[int, float]) -> dict[int, KeepCache] | None:
        if not len(layer.alive_V):
            return None
        fed_VD = layer.layout.fed_VD
        if len(layer.alive_V) < len(fed_VD):
            fed_VD = fed_VD[layer.alive_V]
        states_VD, fed_VD = layer.visual_VD.float(), fed_VD.float()
        if self.mean_of == "states":
            states_VD, fed_VD = states_VD.mean(0, keepdim=True), fed_VD.mean(0, keepdim=True)
        # Not functional.cosine_similarity, which writes unit vectors of both sides: 3 times the time at 6272 x 3584.
        norms_V = (states_VD.norm(dim=-1) * fed_VD.norm(dim=-1)).clamp(min=SMALLEST_NORM)
        state[layer.index] = ((states_VD * fed_VD).sum(-1) / norms_V).mean().item()
        if state[layer.index] >= self.threshold:
            return None
        nothing = layer.alive_V[:0]
        return {layer.index: KeepCache(nothing, self.reencode, self.acts == "in_prefill")}

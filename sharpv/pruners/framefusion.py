"""FrameFusion: merge what repeats in time over the first layers, then prune once by attention.

Shape suffixes: H query heads, E head width, Q query rows, N alive rows, V visual rows alive, A groups merged into one
row each, D width, K kept rows.
"""

from dataclasses import dataclass, field, replace
from typing import Self

import torch
from torch.nn import functional

from sharpv.checks import require_fields
from sharpv.pruners.base import MemoryPruner
from sharpv.pruners.view import Layer, Layout, Site
from sharpv.tokens import Selection


@dataclass
class FusionState:
    """sparsities: share merged away at each merge call so far. placed: visual rows alive that have a place in a
    frame."""

    placed: int
    sparsities: list[float] = field(default_factory=list)
    merged: bool = False
    pruned: bool = False


@dataclass
class FrameFusion(MemoryPruner):
    """Before the first layer, then between attention and MLP of each layer, a visual row that resembles the row of the
    same place in the frame before is averaged into it, whole chains into their earliest row. Once few rows are alike,
    the next layer's attention of the prompt's last rows prunes what is still too much, once.

    Paper: FrameFusion, ICCV 2025 (arXiv 2501.01986). Official: thu-nics/FrameFusion @
    fbec1d2e6bd383361c2c87ca13e73f80a8c1a9e9.

    keep_ratio: cost; the mean over layers of the share of visual rows left. similarity_threshold:
    similarity_lower_bound; rows at least this alike merge. merge_floor: ratio_lower_bound; merging ends once it takes a
    smaller share than this. query_rows: last prompt rows whose attention prunes (1; the authors use 4 for Qwen2-VL).
    official: counts 28 layers whatever the model's depth.

    Merged rows keep the place and position of their earliest row and weigh as one row in a later mean. Each layer
    caches what is alive at its attention. Promises: sorted, unique; the count depends on the video, the mean over
    layers does not.
    Complexity: O(V D) time and memory per merge, at most one a layer, one count read back; O(H Q N E) time and O(H Q N)
    memory for the Q rows that prune, once; no quadratic term. The authors' is the same: they form those rows beside
    SDPA, too.
    Deviations: the budget counts the model's own layers unless `official`; a call after as many merges as layers does
    nothing (officially a division by zero). A zero row resembles nothing (NaN and merged first in the authors' code, a
    case that `official` leaves out). Equal scores go to the earlier row. Similarities and means are float32; the
    authors' are in the model's dtype, which moves decisions at the threshold and, in bfloat16, miscounts chains of more
    than 256 frames.
    """

    keep_ratio: float = 0.3
    similarity_threshold: float = 0.6
    merge_floor: float = 0.1
    query_rows: int = 1
    official: bool = False

    sites = ("enter", "attended")

    def __post_init__(self) -> None:
        require_fields(self)
        if not 0 < self.keep_ratio <= 1:
            raise ValueError(f"keep_ratio={self.keep_ratio} is the mean share of rows left (cost); choose it in (0, 1]")
        if self.query_rows < 1:
            raise ValueError(f"query_rows={self.query_rows} must be at least 1")
        self.may_keep_all = self.keep_ratio == 1

    def mean_share(self, depth: int) -> float:
        return self.keep_ratio

    def at_budget(self, share: float, depth: int) -> Self:
        """Not below one layer's rows in all: the merges, whose number the video decides, may have used that up."""
        if share * depth < 1:
            raise ValueError(f"{share:.1%} over {depth} layers are less than the rows of one, in which it merges first")
        return replace(self, keep_ratio=share)

    def begin(self, layout: Layout) -> FusionState:
        return FusionState(placed=int((layout.patch_V >= 0).sum()))

    def keep_rows(self, layer: Layer, site: Site, state: FusionState) -> Selection | None:
        depth = self.counted_depth(layer.depth)
        if state.pruned or (site == "enter" and layer.index) or len(state.sparsities) >= depth:
            return None
        bound = budget(state.sparsities, self.keep_ratio, depth)
        return self._prune(layer, state, bound) if state.merged else self._merge(layer, state, bound)

    def counted_depth(self, depth: int) -> int:
        """Layers over which the budget is a mean."""
        return 28 if self.official else depth

    def _merge(self, layer: Layer, state: FusionState, bound: float) -> Selection | None:
        similarity_V, order_V = neighbour_similarity(layer.visual_VD, layer.layout.patch_V[layer.alive_V])
        joins_V = similarity_V >= self.similarity_threshold
        count = int(joins_V.sum())
        share = count / max(state.placed, 1)
        if share < bound:
            state.sparsities.append(share)
            state.merged = share < self.merge_floor
        else:
            count = int(bound * state.placed)
            state.merged = state.pruned = True
            closest_K = similarity_V.argsort(descending=True, stable=True)[:count]
            joins_V = torch.zeros_like(joins_V).scatter(0, closest_K, True)
        state.placed -= count
        if not count:
            return None
        anchor_A = joins_V.long().argsort(stable=True)[: len(joins_V) - count]
        size_A = torch.diff(anchor_A, append=anchor_A.new_full((1,), len(joins_V)))
        rows_VD = layer.visual_VD[order_V].float()
        means_AD = torch.segment_reduce(rows_VD, "mean", lengths=size_A, axis=0, unsafe=True)
        kept_A, rank_A = order_V[anchor_A].sort()
        return Selection(layer.alive_V[kept_A], means_AD[rank_A], positions="original")

    def _prune(self, layer: Layer, state: FusionState, bound: float) -> Selection:
        state.pruned = True
        rows_HQN = layer.attention_rows(list(range(-self.query_rows, 0)))
        scores_V = rows_HQN.mean((0, 1))[layer.visual_slice]
        best_K = scores_V.argsort(descending=True, stable=True)[: round(len(scores_V) * (1 - bound))]
        return Selection(layer.alive_V[best_K.sort().values], positions="original")


def neighbour_similarity(rows_VD: torch.Tensor, patch_V: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows ordered by place, then time: cosine of each to the one before, float32 (V,), and the order (V,). It is -2
    for the first row of a place and for rows without one (patch -1), which never merge."""
    patch_V, order_V = patch_V.sort(stable=True)
    unit_VD = functional.normalize(rows_VD.float(), dim=-1)[order_V]
    similarity_V = torch.full_like(unit_VD[:, 0], -2.0)
    same_V = (patch_V[1:] == patch_V[:-1]) & (patch_V[1:] >= 0)
    similarity_V[1:] = torch.where(same_V, (unit_VD[1:] * unit_VD[:-1]).sum(-1), -2.0)
    return similarity_V, order_V


def budget(sparsities: list[float], keep_ratio: float, depth: int) -> float:
    """The share to take away now that, held for all layers left, makes the mean share over `depth` layers keep_ratio.

    Raises ValueError where the layers so far have used up more than that.
    """
    left, used = 1.0, 0.0
    # One by one, as the official code adds: fsum(), and sum() from Python 3.12 on, round once and may change a count.
    for share in sparsities:
        left *= 1 - share
        used += left
    remain = depth * keep_ratio - used
    if remain < 0:
        raise ValueError(
            f"keep_ratio={keep_ratio} is used up after {len(sparsities)} merges: choose a larger one or merge more"
        )
    return max(0.0, 1 - remain / ((depth - len(sparsities)) * left))

"""FlashVID, vision side: diverse tokens that are attended to, and averages of what the others have in common over time.

Shape suffixes: T frames, t = T - 1 steps, P tokens per frame, D width, N = T * P, A selected tokens of a frame, M
candidates of a frame for context, C its clusters, K output rows. Longer than other methods: eleven settings to tell of,
and what it does in three steps; what others do too is in clustering, max_min and temporal_trees.
"""

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal, Self

import torch
from torch.nn import functional

from sharpv.checks import require_fields
from sharpv.pruners.base import VisualPruner
from sharpv.pruners.clustering import dpc_knn
from sharpv.pruners.max_min import EXPONENT, max_min, to_segment_mean
from sharpv.pruners.temporal_trees import grow, merged, roots
from sharpv.pruners.tower_attention import attention_received
from sharpv.tokens import Selection, VideoTokens, keep_all

NEIGHBOURS = 7


@dataclass
class FlashVID(VisualPruner):
    """Cuts the video where the mean token changes. In each frame a greedy max-min choice takes tokens that are far
    apart, attended to by the tower, and alike to the segment's mean; the others of a segment merge along trees through
    time, and what stays of them into density-peak clusters within each frame.

    Paper: FlashVID, ICLR 2026 (arXiv 2602.08024). Official: Fanziyang-v/FlashVID @
    1d37422c5afcaa15ee46b5355f5ba798fa93290a.

    keep_ratio: retention_ratio, the mean over the model's layers once `FlashVIDInner` follows. expansion: so many times
    that share is fed: B = ceil(P keep_ratio expansion) rows a frame. selected_share: alpha; ceil(selected_share B) are
    chosen tokens, the others context. segment_threshold, segments: cut at adjacent cosines below the threshold, and at
    the lowest others until there are so many segments; complementary=False leaves these out. tree_threshold:
    temporal_threshold. choice: token_selection_method. noise: scale of uniform noise on densities (1e-6 officially).
    layer: tower layer whose attention is read, -1 the last that runs. official: as released: a tree's sum is divided by
    1 + its root's direct children, so that rows of deep trees grow; a frame alone in its segment clusters all its
    tokens, the selected ones, too; `attn_div_v2` may pick a token again once no other helps.

    Promises: sorted, unique unless official, contiguous positions; B T rows and up to one more a frame, or fewer where
    less is left to merge. A row of context has its centre's index. B >= P keeps all (ValueError beyond P if official).
    Complexity: O(T P^2 D) time and O(T P^2) memory for distances, O(T A P) for the choice with a running minimum, trees
    O(T P^2 D) time with a loop over frames; quadratic only within a frame. The authors look at all chosen tokens again
    at each pick, O(T A^2 P). Two read-backs: the cuts, then how many trees each frame has.
    Deviations: unless `official`, trees are means, frames alone cluster only what is not selected, and no token is
    picked twice; always, no noise by default, the earlier of equally dense tokens counts as denser; a place cut
    twice counts once; self distances are 0; equal scores go to the earlier token; float32 where the authors merge in
    the model's dtype; the video's own tensor is not changed. A tower with a CLS token, which the authors have not,
    gives the attention that this one pays.
    """

    keep_ratio: float = 0.25
    expansion: float = 1.25
    selected_share: float = 0.7
    segment_threshold: float = 0.9
    segments: int = 8
    complementary: bool = True
    tree_threshold: float = 0.8
    choice: Literal["attn_div_v2", "attn_div", "attn", "div"] = "attn_div_v2"
    noise: float = 0.0
    layer: int = -1
    official: bool = False

    def __post_init__(self) -> None:
        require_fields(self)
        if not 0 < self.keep_ratio <= 1 or self.expansion <= 0:
            raise ValueError(f"keep_ratio={self.keep_ratio} must lie in (0, 1], expansion={self.expansion} above 0")
        if not 0 <= self.selected_share <= 1:
            raise ValueError(f"selected_share={self.selected_share} must lie in [0, 1], the rest is context")
        if self.segments < 1 or self.noise < 0:
            raise ValueError(f"segments={self.segments} must be at least 1 and noise={self.noise} at least 0")
        if self.choice not in ("attn_div_v2", "attn_div", "attn", "div"):
            raise ValueError(f"choice={self.choice!r} is not one of attn_div_v2, attn_div, attn, div")
        self.may_keep_all = self.keep_ratio * self.expansion >= 1
        self.tower_layers = (self.layer,)

    def requested_ratio(self, frames: int) -> float:
        return min(1.0, self.keep_ratio * self.expansion)

    def at_budget(self, share: float, frames: int) -> Self:
        return replace(self, keep_ratio=share / self.expansion)

    def select(self, video: VideoTokens) -> Selection:
        features_TPD, tokens, device = video.require_finite(), video.tokens_per_frame, video.device
        if video.tower is None:
            raise ValueError("FlashVID reads the vision tower's last layer, but video.tower is None; pass a Tower")
        budget = math.ceil(tokens * self.keep_ratio * self.expansion)
        if self.official and budget > tokens:
            raise ValueError(f"keep_ratio={self.keep_ratio} * expansion={self.expansion} is more than there is")
        if budget >= tokens and not self.official:
            return keep_all(video)
        selected = math.ceil(budget * self.selected_share)
        attention_TP = attention_received(video.tower, self.layer)
        lengths = [length for length in self.segment_lengths(features_TPD.mean(1)) if length]
        pick_TA = self.picks(features_TPD, attention_TP, lengths, selected)
        picked_N = (pick_TA + tokens * torch.arange(video.frames, device=device)[:, None]).flatten()
        origins, rows = [picked_N], [features_TPD.flatten(0, 1)[picked_N]]
        context_N = torch.full((video.total,), -1, device=device)
        root_N = torch.arange(video.total, device=device)
        if budget > selected:
            free_TP = torch.ones_like(attention_TP, dtype=torch.bool).scatter(1, pick_TA, False)
            tree_TPD, candidate_TP, root_N = self.trees(features_TPD, free_TP, lengths, budget)
            for center_C, member_M, label_M, row_CD in self._contexts(
                tree_TPD, candidate_TP, lengths, budget - selected, video.generator()
            ):
                context_N[member_M] = sum(map(len, origins)) + label_M
                origins.append(center_C)
                rows.append(row_CD)
        origin_K, order_K = torch.cat(origins).sort(stable=True)
        place_K = torch.empty_like(order_K).scatter_(0, order_K, torch.arange(len(order_K), device=device))
        context_N = context_N[root_N]
        assign_N = torch.where(context_N < 0, -1, place_K[context_N])
        assign_N[picked_N] = place_K[: len(picked_N)]
        return Selection(origin_K, torch.cat(rows)[order_K], assign_N)

    def segment_lengths(self, mean_TD: torch.Tensor) -> list[int]:
        """Frames per segment by their mean tokens, 0 where the same place was cut twice. One read-back."""
        cosine_t = functional.cosine_similarity(mean_TD[:-1], mean_TD[1:], dim=-1)
        cut_t = cosine_t < self.segment_threshold
        lowest_t = torch.where(cut_t, 1.0, cosine_t).argsort(stable=True)
        is_cut, lowest = torch.stack([cut_t.long(), lowest_t]).tolist()
        cuts = [step for step, cut in enumerate(is_cut, 1) if cut]
        if self.complementary:
            cuts += [step + 1 for step in lowest[: max(0, self.segments - len(cuts) - 1)]]
        edges = [0, *sorted(cuts), len(mean_TD)]
        return [stop - start for start, stop in pairwise(edges)]

    def picks(
        self, features_TPD: torch.Tensor, attention_TP: torch.Tensor, lengths: list[int], count: int
    ) -> torch.Tensor:
        """Places chosen in each frame, ascending (T, A)."""
        if self.choice == "attn":
            return attention_TP.argsort(dim=-1, descending=True, stable=True)[:, :count].sort().values
        weight_TP = attention_TP * EXPONENT if self.choice != "div" else None
        if self.choice == "attn_div_v2":
            weight_TP = attention_TP * EXPONENT * to_segment_mean(features_TPD, lengths)
        return max_min(features_TPD, weight_TP, count, self.official and self.choice == "attn_div_v2")

    def trees(
        self, features_TPD: torch.Tensor, free_TP: torch.Tensor, lengths: list[int], budget: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Rows after merging over time (T, P, D), which of them are candidates for context (T, P), and the token that
        each one merged into, as flat index (N,)."""
        tree_TPD, candidate_TP = features_TPD.clone(), free_TP.clone()
        root_TP = torch.arange(free_TP.numel(), device=free_TP.device).view(free_TP.shape)
        stop = 0
        for length in lengths:
            frames = slice(stop, stop := stop + length)
            if length == 1:
                candidate_TP[frames] |= self.official
                continue
            segment_LPD, free_LP = features_TPD[frames], free_TP[frames]
            parent_LP, merges_LP = grow(segment_LPD, free_LP, self.tree_threshold, budget * length)
            tree_TPD[frames] = merged(segment_LPD, parent_LP, merges_LP, self.official)
            candidate_TP[frames] &= ~merges_LP
            root_TP[frames] = root_TP[frames].flatten()[roots(parent_LP, merges_LP)]
        return tree_TPD, candidate_TP, root_TP.flatten()

    def draw(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Uniform noise [0, 1) of one frame's candidates, float32 (count,) on the CPU, in the official order."""
        return torch.rand(count, generator=generator)

    def _contexts(self, tree_TPD, candidate_TP, lengths: list[int], context: int, generator: torch.Generator):
        """Frame by frame: centres (C,) and candidates (M,) as flat indices, clusters (M,) and rows (C, D). One
        read-back, the candidates per frame."""
        counts, tokens = candidate_TP.sum(1).tolist(), candidate_TP.shape[1]
        first_TM = candidate_TP.int().argsort(dim=-1, descending=True, stable=True)
        stop = 0
        for length in lengths:
            start, stop = stop, stop + length
            share = context * length / max(1, sum(counts[start:stop]))
            for frame in range(start, stop):
                place_M = first_TM[frame, : counts[frame]]
                row_MD, member_M = tree_TPD[frame, place_M], place_M + frame * tokens
                label_M = torch.arange(counts[frame], device=place_M.device)
                if share >= 1 or not counts[frame]:
                    yield member_M, member_M, label_M, row_MD
                    continue
                clusters = math.ceil(counts[frame] * share)
                noise_1M = None
                if self.noise:
                    noise_1M = self.noise * self.draw(counts[frame], generator)[None].to(place_M.device)
                label_1M, center_1C = dpc_knn(row_MD[None], clusters, min(clusters, NEIGHBOURS), noise_1M)
                member_MC = functional.one_hot(label_1M[0], clusters).float()
                row_CD = member_MC.T @ row_MD / member_MC.sum(0)[:, None]
                yield member_M[center_1C[0]], member_M, label_1M[0], row_CD

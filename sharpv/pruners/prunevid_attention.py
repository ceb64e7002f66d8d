"""PruneVid, stage 2: one look of the question at the video decides what every layer's cache keeps.

Shape suffixes: H query heads, Q question rows, N alive rows, V visual rows as fed, G groups, K kept rows.
"""

from dataclasses import dataclass, field, replace
from typing import Self

import torch

from sharpv.checks import require_fields
from sharpv.pruners.base import MemoryPruner, scaled_layer
from sharpv.pruners.ranking import mean_share, ratio_behind
from sharpv.pruners.view import KeepCache, Layer, Layout, Site
from sharpv.tokens import Selection


@dataclass
class QuestionState:
    """group_V: group of each visual row. quota_G: rows that a group keeps. scores_V: high = keep. best_K: rows kept,
    group by group and best first. kept_K: the same, sorted."""

    group_V: torch.Tensor
    quota_G: torch.Tensor
    scores_V: torch.Tensor | None = field(default=None, repr=False)
    best_K: torch.Tensor | None = None
    kept_K: torch.Tensor | None = None


@dataclass
class PruneVidAttention(MemoryPruner):
    """At one layer every text row behind the video looks at the visual rows, without rotary positions and without a
    causal mask; a row's score is the largest probability over heads and text rows. Each group of stage 1 keeps its own
    share of best rows, in the caches of all layers up to that one as well, and only these are computed further on.

    Paper: PruneVid, ACL 2025 (arXiv 2412.16117). Official: Visual-AI/PruneVid @
    b12600c6176c606ee4b6b7d9e26f4aa46d0dfd42.

    keep_ratio: alpha; a group of n rows keeps int(keep_ratio * n), possibly none. layer: selected_layer, 0-based;
    layers after it are short (a 28-layer model's number; scale_layers=False takes it as it is). The paper's settings;
    its configuration files' defaults differ.

    Groups are those of `PruneVidMerge` (`group_K`: per segment its static rows, then each frame's others).
    Promises: sorted, unique.
    Complexity: O(H Q N E) time beside one key projection, O(H Q N) memory, once; the authors form H N^2.
    Deviations: behind another visual stage, or none, each frame is a group and rows that belong to no frame are one.
    With fewer key-value heads than heads, where the official code fails, keys serve their group of heads. Separator
    rows behind the video (newline) are kept and ask nothing. Equal scores go to the earlier row. Scores stay float32;
    the official cast to the model's dtype makes near-equal ones tie. With the model's last layer only caches are cut;
    officially hidden rows are as well, though nothing reads them any more.
    """

    keep_ratio: float = 0.4
    layer: int = 10
    scale_layers: bool = True

    def __post_init__(self) -> None:
        require_fields(self)
        if not 0 < self.keep_ratio <= 1:
            raise ValueError(
                f"keep_ratio={self.keep_ratio} is the share kept of each group (alpha); choose it in (0, 1]"
            )
        if self.layer < 0:
            raise ValueError(f"layer={self.layer} must be at least 0, the first layer")
        self.may_keep_all = self.keep_ratio == 1

    def check(self, depth: int) -> None:
        self.looking_layer(depth)

    def looking_layer(self, depth: int) -> int:
        """The layer whose attention decides, the last that computes all rows."""
        return scaled_layer(self.layer, depth, self.scale_layers)

    def mean_share(self, depth: int) -> float:
        return mean_share(self.keep_ratio, self.looking_layer(depth) + 1, depth)

    def at_budget(self, share: float, depth: int) -> Self:
        return replace(self, keep_ratio=ratio_behind(share, self.looking_layer(depth) + 1, depth))

    def begin(self, layout: Layout) -> QuestionState:
        if not layout.text_behind:
            raise ValueError(
                "no text comes after the video, so there is no question to look at it; put the video first"
            )
        labels_V = None if layout.selection is None else layout.selection.group_K
        labels_V = layout.frame_V if labels_V is None else labels_V
        _, group_V, size_G = labels_V.to(layout.fed_VD.device).unique(return_inverse=True, return_counts=True)
        return QuestionState(group_V, (size_G.double() * self.keep_ratio).long())

    def keep_cache(self, layer: Layer, state: QuestionState) -> dict[int, KeepCache] | None:
        if layer.index != self.looking_layer(layer.depth):
            return None
        layout = layer.layout
        question_Q = list(range(-layout.text_behind, 0))
        rows_HQN = layer.attention_rows(question_Q, rotary=False, causal=False)
        state.scores_V = rows_HQN[..., layer.visual_slice].amax((0, 1))
        state.best_K = best_of_groups(state.scores_V, state.group_V, state.quota_G)
        state.kept_K = state.best_K.sort().values
        return {index: KeepCache(state.kept_K) for index in range(layer.index + 1)}

    def keep_rows(self, layer: Layer, site: Site, state: QuestionState) -> Selection | None:
        if layer.index != self.looking_layer(layer.depth) + 1:
            return None
        assert state.kept_K is not None
        return Selection(state.kept_K, positions="original")


def best_of_groups(scores_V: torch.Tensor, group_V: torch.Tensor, quota_G: torch.Tensor) -> torch.Tensor:
    """Indices of each group's highest scores, as many as its quota, group by group and best first."""
    best_V = scores_V.argsort(descending=True, stable=True)
    order_V = best_V[group_V[best_V].argsort(stable=True)]
    sorted_V = group_V[order_V].contiguous()
    rank_V = torch.arange(len(order_V), device=order_V.device) - torch.searchsorted(sorted_V, sorted_V)
    return order_V[rank_V < quota_G[sorted_V]]

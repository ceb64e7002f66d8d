"""HoliTom, inner stage: past two thirds of the layers, half of the tokens merge into the half attended to.

Shape suffixes: H query heads, N alive rows, E head width, D width, V visual rows alive, K kept rows, M dropped rows.
"""

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch.nn import functional

from sharpv.checks import require_fields
from sharpv.pruners.base import MemoryPruner, scaled_layer
from sharpv.pruners.ranking import highest, mean_share, ratio_behind, require_late_layer, scores_of_layer_before
from sharpv.pruners.view import Layer, Layout, Site
from sharpv.tokens import Selection

COSINES_AT_ONCE = 2**18


@dataclass
class HoliTomInner(MemoryPruner):
    """The attention that the prompt's last token pays the visual tokens in one late layer, averaged over heads, ranks
    them; before the next layer each token that is not among the best is merged into the most similar one that is, by
    the cosine of their states, and leaves.

    Paper: HoliTom, NeurIPS 2025 (arXiv 2505.21334). Official: cokeshao/HoliTom @
    e9b2972f6895c9e7d7fe74eb8c3a2ecaab8056e0.

    layer: K; the first that runs short, layer K-1 gives the scores (a 28-layer model's number; scale_layers=False takes
    it as it is). keep_ratio: 1 - r; round(keep_ratio * V) rows go on, halves to even.

    As in the authors' code, and unlike the paper's average, tokens are merged one after another by position, each
    time halving what was there: of m tokens merged into one row the i-th weighs 2^-(m - i + 1), the row itself 2^-m.
    Promises: sorted, unique, declared count, original positions. `assign_N`: the output row of each row alive.
    Complexity: O(H N E) time beside one key projection, once; O(K M D) time for the cosines, in blocks of
    COSINES_AT_ONCE, and O(V D) for the merging; O(V D) memory beside a block. The authors form the H N^2 attentions of
    layer K-1 and all K M cosines, and merge in a loop over M tokens. No read-back.
    Deviations: layer K-1 is causal. Officially it attends to later rows, too, since asking for its attentions drops the
    mask of SDPA; the rows kept are the same, later states are not, and that defect is not offered. Separator rows
    (newline) count as text; officially LLaVA-OneVision's competes with the visual rows. Where no row is kept none is
    merged (officially an error). Equal scores go to the earlier token, equal cosines to the better scored one. Scores,
    cosines and merging are float32.
    """

    layer: int = 18
    keep_ratio: float = 0.5
    scale_layers: bool = True

    def __post_init__(self) -> None:
        require_fields(self)
        require_late_layer(self.layer, self.keep_ratio)
        self.may_keep_all = self.keep_ratio == 1

    def check(self, depth: int) -> None:
        self.first_short(depth)

    def first_short(self, depth: int) -> int:
        """The first layer that runs on the kept rows only."""
        return scaled_layer(self.layer, depth, self.scale_layers)

    def mean_share(self, depth: int) -> float:
        return mean_share(self.keep_ratio, self.first_short(depth), depth)

    def at_budget(self, share: float, depth: int) -> Self:
        return replace(self, keep_ratio=ratio_behind(share, self.first_short(depth), depth))

    def begin(self, layout: Layout) -> dict[str, torch.Tensor]:
        """Holds `scores`, float32 (V,), high = keep, once layer K-1 has been entered."""
        return {}

    def keep_rows(self, layer: Layer, site: Site, state: dict[str, torch.Tensor]) -> Selection | None:
        scores_V = scores_of_layer_before(layer, self.first_short(layer.depth), state)
        if scores_V is None:
            return None
        visual = len(layer.alive_V)
        count = round(self.keep_ratio * visual)
        order_V = highest(scores_V, visual)
        kept_K, place_K = order_V[:count].sort()
        if count in (0, visual):
            return Selection(layer.alive_V[kept_K], positions="original")
        dropped_M = order_V[count:].sort().values
        rows_VD = layer.visual_VD.float()
        rank_M = most_similar(rows_VD[dropped_M], rows_VD[order_V[:count]])
        target_M = place_K.argsort()[rank_M]
        assign_V = torch.empty_like(order_V).scatter_(0, dropped_M, target_M)
        assign_V.scatter_(0, kept_K, torch.arange(count, device=order_V.device))
        merged_KD = halved_in_turn(rows_VD[kept_K], rows_VD[dropped_M], target_M)
        return Selection(layer.alive_V[kept_K], merged_KD, assign_V, positions="original")


def most_similar(rows_MD: torch.Tensor, candidate_KD: torch.Tensor) -> torch.Tensor:
    """Of each row the candidate with the largest cosine (M,), the first of equal ones."""
    unit_DK = functional.normalize(candidate_KD, dim=-1).T
    blocks = functional.normalize(rows_MD, dim=-1).split(max(1, COSINES_AT_ONCE // len(candidate_KD)))
    return torch.cat([(block_BD @ unit_DK).argmax(-1) for block_BD in blocks])


def halved_in_turn(rows_KD: torch.Tensor, merged_MD: torch.Tensor, target_M: torch.Tensor) -> torch.Tensor:
    """The rows after row = (row + merged) / 2 for each merged row in order, without that loop."""
    size_K = torch.zeros(len(rows_KD), dtype=torch.long, device=target_M.device)
    size_K = size_K.scatter_add(0, target_M, torch.ones_like(target_M))
    sorted_M, order_M = target_M.sort(stable=True)
    from_last_M = size_K.cumsum(0)[sorted_M] - torch.arange(len(sorted_M), device=sorted_M.device)
    weighted_MD = merged_MD[order_M] * torch.exp2(-from_last_M.float())[:, None]
    sum_KD = torch.segment_reduce(weighted_MD, "sum", lengths=size_K, axis=0, unsafe=True)
    return rows_KD * torch.exp2(-size_K.float())[:, None] + sum_KD

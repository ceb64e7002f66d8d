"""Bipartite merging (ToMe), a control. Shapes: N tokens left, A their first half, M merges, D width, K rows kept."""

from dataclasses import dataclass

import torch
from torch.nn import functional

from sharpv.checks import require_fields
from sharpv.pruners.base import VisualPruner
from sharpv.tokens import Selection, VideoTokens, keep_all


@dataclass
class BipartiteMerging(VisualPruner):
    """Deals the tokens out to two halves by turns, pairs each of the first half with the most similar of the second and
    merges the most similar pairs into means weighted by size, as often as it takes to meet the budget.

    keep_ratio: round(keep_ratio N) rows stay, over the whole video. A row has the index of its second-half token.
    Paper: Token Merging (ToMe), ICLR 2023 (arXiv 2210.09461). Official: none was run; written from the paper.
    Promises: sorted, unique, declared count. Complexity: O(N^2 D) time in blocks of 2**23 cosines, O(N D) memory
    beside one; ToMe forms all cosines of a step. No read-back. Deviations: cosines of features, not of a layer's keys;
    it acts once, in front of the language model; of equal pairs the earlier merges.
    """

    keep_ratio: float = 0.25

    def __post_init__(self) -> None:
        require_fields(self)
        if not 0 < self.keep_ratio <= 1:
            raise ValueError(f"keep_ratio={self.keep_ratio} is the share of rows kept; choose it in (0, 1]")
        self.may_keep_all = self.keep_ratio == 1

    def select(self, video: VideoTokens) -> Selection:
        rows_ND, count = video.require_finite().flatten(0, 1), round(self.keep_ratio * video.total)
        if count == video.total:
            return keep_all(video)
        if not count:
            raise ValueError(f"keep_ratio={self.keep_ratio} keeps none of {video.total} tokens; take a larger one")
        origin_N = assign_N = torch.arange(video.total, device=video.device)
        size_N1 = torch.ones_like(rows_ND[:, :1])
        while len(rows_ND) > count:
            kept_K, into_N = halve(rows_ND, min(len(rows_ND) - count, len(rows_ND) // 2))
            order_N = into_N.argsort(stable=True)
            parts_K = torch.zeros_like(kept_K).scatter_add(0, into_N, torch.ones_like(into_N))
            weighted_ND = torch.cat([rows_ND * size_N1, size_N1], 1)[order_N]
            sum_KD = torch.segment_reduce(weighted_ND, "sum", lengths=parts_K, axis=0, unsafe=True)
            rows_ND, size_N1 = sum_KD[:, :-1] / sum_KD[:, -1:], sum_KD[:, -1:]
            origin_N, assign_N = origin_N[kept_K], into_N[assign_N]
        return Selection(origin_N, rows_ND, assign_N)


def halve(rows_ND: torch.Tensor, merges: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows that stay after so many merges (K,), and the place among these that each row goes to (N,)."""
    unit_ND, into_N = functional.normalize(rows_ND, dim=-1), torch.arange(len(rows_ND), device=rows_ND.device)
    blocks = unit_ND[::2].split(max(1, 2**24 // len(rows_ND)))
    best_A, choice_A = map(torch.cat, zip(*((x @ unit_ND[1::2].T).max(-1) for x in blocks), strict=True))
    first_M = best_A.argsort(descending=True, stable=True)[:merges]
    into_N[2 * first_M] = 2 * choice_A[first_M] + 1
    kept_K = torch.zeros_like(into_N).scatter(0, 2 * first_M, 1).argsort(stable=True)[: len(rows_ND) - merges]
    place_N = torch.empty_like(into_N).scatter(0, kept_K, torch.arange(len(kept_K), device=rows_ND.device))
    return kept_K, place_N[into_N]

"""DivPrune: the most diverse subset of a video's tokens.

Shape suffixes: N = T * P tokens of the video, D width, K kept rows, B rows of a block.
"""

from dataclasses import dataclass

import torch

from sharpv.pruners.base import VisualPruner
from sharpv.tokens import Selection, VideoTokens

BLOCK_BYTES = 64 * 2**20


@dataclass
class DivPrune(VisualPruner):
    """Starts at the token whose nearest neighbour is farthest, then adds again and again the token farthest from all
    chosen ones (greedy max-min of the cosine distance 1 - cos). All frames of the video are one pool, without a
    budget per frame.

    Paper: DivPrune, CVPR 2025. Official: vbdi/divprune @ 799e2d950aa01ba7860907f5a6d86061f885dca6.

    keep_ratio: SUBSET_RATIO, threshold_ratio; round(keep_ratio * N) tokens stay, halves to even. official: chosen
    tokens stay candidates, so that copies are fed repeatedly once nothing else is left, and a zero vector gives NaN.

    Promises: sorted; unique unless official. The first of equals wins.
    Complexity: O(N^2 D) for the first pick, in blocks of 64 MB, then O(N D) a pick with a running minimum; no N x N
    matrix is held; the authors hold it and look at all K chosen rows again at each pick, O(K^2 N).
    Deviations: chosen tokens are masked (the same picks as long as the winning distance is above rounding) and a zero
    vector's norm is clamped; distances are float32 where the authors use the model's dtype; the model's newline row is
    no candidate. Measured in the specs on 392 x 64 features at 98 kept, half-precision distances share 97 (float16) or
    40 (bfloat16) picks with float32 on random features, 69 or 12 in tight clusters.
    """

    keep_ratio: float = 0.098
    official: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.keep_ratio <= 1:
            raise ValueError(f"keep_ratio={self.keep_ratio} is the share of tokens kept; choose it in (0, 1]")
        self.may_keep_all = self.keep_ratio == 1

    def select(self, video: VideoTokens) -> Selection:
        pick_K, _ = self.picks(video.require_finite().flatten(0, 1))
        return Selection(pick_K.sort().values)

    def picks(self, features_ND: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Token indices in the order of choice (K,) and the distance with which each won (K,)."""
        total = len(features_ND)
        count = round(self.keep_ratio * total)
        if not count:
            raise ValueError(
                f"keep_ratio={self.keep_ratio} keeps none of {total} tokens; choose at least {1 / total:.3g}"
            )
        norm_N1 = features_ND.norm(dim=-1, keepdim=True)
        unit_ND = features_ND / (norm_N1 if self.official else norm_N1.clamp(min=torch.finfo(torch.float32).tiny))
        pick_K = torch.empty(count, dtype=torch.long, device=features_ND.device)
        distance_K = torch.empty(count, device=features_ND.device)
        gap_N = nearest_distance(unit_ND)
        apart_N = torch.full_like(gap_N, torch.inf)
        for step in range(count):
            winner_1 = gap_N.argmax(0, keepdim=True)
            pick_K[step : step + 1] = winner_1
            distance_K[step : step + 1] = gap_N[winner_1]
            apart_N = torch.minimum(apart_N, 1 - unit_ND @ unit_ND[winner_1][0])
            if not self.official:
                apart_N[winner_1] = -torch.inf
            gap_N = apart_N
        return pick_K, distance_K


def nearest_distance(unit_ND: torch.Tensor) -> torch.Tensor:
    """Cosine distance of each row to its nearest other row (N,): the second smallest of its row, after itself."""
    total = len(unit_ND)
    rank = min(2, total)
    blocks = unit_ND.split(max(1, BLOCK_BYTES // (4 * total)))
    return torch.cat([(1 - block_BD @ unit_ND.T).topk(rank, largest=False).values[:, -1] for block_BD in blocks])

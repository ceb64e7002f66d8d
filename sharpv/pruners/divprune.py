"""DivPrune: the most diverse subset of a video's tokens.

Shape suffixes: N = T * P tokens of the video, D width, K kept rows, B rows of a block (or all).
"""

from dataclasses import dataclass

import torch

from sharpv.checks import require_fields
from sharpv.pruners.base import VisualPruner
from sharpv.tokens import Selection, VideoTokens

BLOCK_ROWS = 512
MATRIX_BYTES = 192 * 2**20


@dataclass
class DivPrune(VisualPruner):
    """Starts at the token whose nearest neighbour is farthest, then adds again and again the token farthest from all
    chosen ones (greedy max-min of the cosine distance 1 - cos). All frames of the video are one pool, without a
    budget per frame.

    Paper: DivPrune, CVPR 2025. Official: vbdi/divprune @ 799e2d950aa01ba7860907f5a6d86061f885dca6.

    keep_ratio: SUBSET_RATIO, threshold_ratio; round(keep_ratio * N) tokens stay, halves to even. official: chosen
    tokens stay candidates, so that copies are fed repeatedly once nothing else is left, a zero vector gives NaN, and a
    keep_ratio that rounds to no token keeps none (ValueError otherwise).

    Promises: sorted; unique unless official. The first of equals wins.
    Complexity: O(N^2 D / 2) time for the distances, in blocks and each pair once, then O(N) a pick with a running
    minimum; O(N^2) memory, 157 MB for 6272 tokens. Where the matrix would exceed MATRIX_BYTES none is held: O(N^2 D +
    K N D) time, O(N D) memory. The authors hold it and look at all K chosen rows again at each pick: O(N^2 D + K^2 N)
    time. No read-back.
    Deviations: chosen tokens are masked (the same picks as long as the winning distance is above rounding) and a zero
    vector's norm is clamped; distances are float32 where the authors use the model's dtype; the model's newline row is
    no candidate. Measured in the specs on 392 x 64 features at 98 kept, half-precision distances share 97 (float16) or
    40 (bfloat16) picks with float32 on random features, 69 or 12 in tight clusters.
    """

    keep_ratio: float = 0.098
    official: bool = False

    def __post_init__(self) -> None:
        require_fields(self)
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
        if not count and not self.official:
            raise ValueError(
                f"keep_ratio={self.keep_ratio} keeps none of {total} tokens; choose at least {1 / total:.3g}"
            )
        norm_N1 = features_ND.norm(dim=-1, keepdim=True)
        unit_ND = features_ND / (norm_N1 if self.official else norm_N1.clamp(min=torch.finfo(torch.float32).tiny))
        matrix_NN = cosine_distances(unit_ND) if 4 * total**2 <= MATRIX_BYTES else None
        gap_N = nearest_distance(unit_ND) if matrix_NN is None else second_smallest(matrix_NN)
        apart_N = torch.full_like(gap_N, torch.inf)
        picks, distances = [torch.empty(0, dtype=torch.long, device=gap_N.device)], [gap_N[:0]]
        for _ in range(count):
            distance_1, winner_1 = gap_N.max(0, keepdim=True)
            picks.append(winner_1)
            distances.append(distance_1)
            row_N = 1 - unit_ND @ unit_ND[winner_1][0] if matrix_NN is None else matrix_NN[winner_1][0]
            apart_N = gap_N = torch.minimum(apart_N, row_N)
            if not self.official:
                gap_N[winner_1] = -torch.inf
        return torch.cat(picks), torch.cat(distances)


def cosine_distances(unit_ND: torch.Tensor) -> torch.Tensor:
    """1 - cos of all pairs (N, N); what lies left of the diagonal's blocks is mirrored."""
    total = len(unit_ND)
    matrix_NN = unit_ND.new_empty(total, total)
    for start in range(0, total, BLOCK_ROWS):
        block, rest = slice(start, start + BLOCK_ROWS), slice(start + BLOCK_ROWS, None)
        matrix_NN[block, start:] = 1 - unit_ND[block] @ unit_ND[start:].T
        matrix_NN[rest, block] = matrix_NN[block, rest].T
    return matrix_NN


def nearest_distance(unit_ND: torch.Tensor) -> torch.Tensor:
    """Cosine distance of each row to its nearest other row (N,), without the matrix."""
    return torch.cat([second_smallest(1 - block_BD @ unit_ND.T) for block_BD in unit_ND.split(BLOCK_ROWS)])


def second_smallest(distance_BN: torch.Tensor) -> torch.Tensor:
    """Of each row (B,): the distance to the nearest other token, the smallest being the token's own."""
    return distance_BN.topk(min(2, distance_BN.shape[1]), largest=False).values[:, -1]

"""Tokens of each frame that are far apart and weigh much, chosen one after another (FlashVID's ADTS).

Shape suffixes: T frames, P tokens per frame, D width, A chosen tokens of a frame.
"""

import torch
from torch.nn import functional

EXPONENT = 1e6
"""Factor by which the authors lift attention before it weighs distances; it changes no order but that of rounding."""


def to_segment_mean(features_TPD: torch.Tensor, lengths: list[int]) -> torch.Tensor:
    """Dot product of each token with the mean token of its segment, float32 (T, P)."""
    segments = features_TPD.mean(1).split(lengths)
    mean_TD = torch.cat([mean_LD.mean(0).expand(len(mean_LD), -1) for mean_LD in segments])
    return (features_TPD @ mean_TD[:, :, None]).squeeze(-1)


def max_min(
    features_TPD: torch.Tensor, weight_TP: torch.Tensor | None, count: int, may_repeat: bool = False
) -> torch.Tensor:
    """Places chosen in each frame, ascending (T, A): first the token whose nearest other is farthest, then the farthest
    from all chosen ones. Distance is 1 - cosine, times the weight of the token that it leads to.

    may_repeat: a token may be chosen again once no other helps. O(T P^2) memory, O(A T P) time for the choice.
    """
    unit_TPD, tokens = functional.normalize(features_TPD, dim=-1), features_TPD.shape[1]
    distance_TPP = 1 - unit_TPD @ unit_TPD.transpose(1, 2)
    distance_TPP.diagonal(dim1=1, dim2=2).zero_()
    if weight_TP is not None:
        distance_TPP *= weight_TP[:, None]
    gap_TP = distance_TPP.topk(min(2, tokens), dim=1, largest=False).values[:, -1]
    apart_TP, picks = torch.full_like(gap_TP, torch.inf), []
    for _ in range(count):
        picks.append(gap_TP.argmax(-1, keepdim=True))
        row_TP = distance_TPP.gather(1, picks[-1][:, :, None].expand(-1, -1, tokens))[:, 0]
        apart_TP = gap_TP = torch.minimum(apart_TP, row_TP)
        if not may_repeat:
            gap_TP.scatter_(1, picks[-1], -torch.inf)
    none_T0 = torch.zeros(len(gap_TP), 0, dtype=torch.long, device=gap_TP.device)
    return torch.cat([none_T0, *picks], 1).sort().values

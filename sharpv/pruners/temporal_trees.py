"""FlashVID's trees: tokens of one segment that follow a similar token of the frame before, anywhere in it.

Shape suffixes: L frames of a segment, l = L - 1, P tokens per frame, D width.
"""

import torch
from torch.nn import functional

LEAST = -1 + 1e-6


def grow(
    features_LPD: torch.Tensor, free_LP: torch.Tensor, threshold: float, least_kept: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Each free token's most similar free token of the frame before, as its place there (L, P), and whether it merges
    into that one, bool (L, P): if their cosine is above the threshold, which rises where fewer than `least_kept` tokens
    would stay, so that one more than these stays unless cosines tie.

    ValueError where any merge would leave fewer. O(L P^2) memory.
    """
    unit_LPD = functional.normalize(features_LPD, dim=-1)
    cosine_lPP = unit_LPD[1:] @ unit_LPD[:-1].transpose(1, 2)
    best_lP, parent_lP = cosine_lPP.masked_fill_(~free_LP[:-1, None, :], -torch.inf).max(-1)
    gain_LP = functional.pad(torch.where(free_LP[1:], best_lP, -1.0), (0, 0, 1, 0), value=-1.0)
    merges_LP = gain_LP > threshold
    most = gain_LP.numel() - least_kept
    if not most:
        if bool(merges_LP.any()):
            raise ValueError("a budget of every token leaves none to merge: choose a smaller keep_ratio or expansion")
    else:
        limit = gain_LP.flatten().sort(descending=True).values[most - 1].clamp(min=LEAST)
        merges_LP = gain_LP > torch.where(merges_LP.sum() > most, limit, threshold)
    return functional.pad(parent_lP, (0, 0, 1, 0)), merges_LP


def roots(parent_LP: torch.Tensor, merges_LP: torch.Tensor) -> torch.Tensor:
    """The token of the segment, as its flat index, that each one's chain of merges ends at; int64 (L, P)."""
    root_LP = torch.arange(merges_LP.numel(), device=merges_LP.device).view(merges_LP.shape)
    for frame in range(1, len(root_LP)):
        joined_P = root_LP[frame - 1][parent_LP[frame]]
        root_LP[frame] = torch.where(merges_LP[frame], joined_P, root_LP[frame])
    return root_LP


def merged(
    features_LPD: torch.Tensor, parent_LP: torch.Tensor, merges_LP: torch.Tensor, official: bool
) -> torch.Tensor:
    """The mean of the tree below each token (L, P, D); officially the tree's sum over 1 + direct children."""
    sum_LPD = features_LPD.clone()
    size_LP1, parts_LP1 = (torch.ones_like(sum_LPD[..., :1]) for _ in range(2))
    for frame in range(len(sum_LPD) - 1, 0, -1):
        link_PP = functional.one_hot(parent_LP[frame], merges_LP.shape[1]).to(sum_LPD) * merges_LP[frame][:, None]
        sum_LPD[frame - 1] += link_PP.T @ sum_LPD[frame]
        size_LP1[frame - 1] += link_PP.T @ size_LP1[frame]
        parts_LP1[frame - 1] += link_PP.sum(0)[:, None]
    return sum_LPD / (parts_LP1 if official else size_LP1)

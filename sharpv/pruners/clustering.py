"""Density-peak clustering, as FastVID, PruneVid, HoliTom and FlashVID use it, and PruneVid's segments of frames.

Shape suffixes: T frames, P tokens per frame, D width, B groups of N tokens clustered at once, M members or clusters.
"""

from itertools import groupby, pairwise

import torch


def dpc_knn(
    x_BND: torch.Tensor, clusters: int, neighbours: int, noise_BN: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Density-peak clustering of each group: label of each token (B, N) and the centres by falling score (B, M)."""
    distance_BNN = torch.stack([distances(x_ND) for x_ND in x_BND])
    center_BM = density_peaks(distance_BNN, clusters, neighbours, noise_BN)
    to_center_BMN = distance_BNN.gather(1, center_BM[..., None].expand(-1, -1, x_BND.shape[1]))
    own_BM = torch.arange(clusters, device=x_BND.device).expand_as(center_BM)
    return to_center_BMN.argmin(1).scatter(1, center_BM, own_BM), center_BM


def density_peaks(
    distance_BNN: torch.Tensor, clusters: int, neighbours: int, noise_BN: torch.Tensor | None
) -> torch.Tensor:
    """The centres of each group by falling score (B, M); density = exp(-mean of the smallest squared distances, the
    token itself included) + noise. Without noise (None) the earlier of equally dense tokens counts as denser."""
    nearest_BNk = distance_BNN.topk(min(neighbours, distance_BNN.shape[-1]), largest=False).values
    density_BN = (-nearest_BNk.square().mean(-1)).exp()
    if noise_BN is None:
        level_BN = -density_BN.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1)
    else:
        level_BN = density_BN = density_BN + noise_BN
    denser_BNN = level_BN[:, None, :] > level_BN[:, :, None]
    score_BN = distance_to_denser(distance_BNN, denser_BNN) * density_BN
    return score_BN.argsort(dim=-1, descending=True, stable=True)[:, :clusters]


def distances(x_ND: torch.Tensor) -> torch.Tensor:
    """Root of the mean squared difference of all pairs, float32 (N, N), from a float64 product so that it is exact."""
    x_ND = (x_ND - x_ND.mean(0)).double()
    square_N = x_ND.square().sum(-1)
    squared_NN = (square_N[:, None] + square_N - 2 * x_ND @ x_ND.T).clamp(min=0) / x_ND.shape[1]
    return squared_NN.fill_diagonal_(0).sqrt().float()


def distance_to_denser(distance_BNN: torch.Tensor, denser_BNN: torch.Tensor) -> torch.Tensor:
    """Distance of each row to its nearest denser one (B, N), the farthest distance of all where none is denser;
    denser_BNN[b, i, j]: whether j is denser than i."""
    farthest_B11 = distance_BNN.amax((1, 2), keepdim=True)
    return torch.where(denser_BNN, distance_BNN, farthest_B11).amin(-1)


def peak_scores(features_TPD: torch.Tensor, member_TM: torch.Tensor, neighbours: int) -> torch.Tensor:
    """Density peak score among the given tokens of each frame, float32 (T, M), high = peak.

    Density = exp(-mean of the smallest squared distances / D, the token itself, at 0, included); the earlier of equally
    dense tokens counts as denser.
    """
    gram_TPP = features_TPD @ features_TPD.transpose(1, 2)
    gram_TMP = gram_TPP.gather(1, member_TM[:, :, None].expand(-1, -1, gram_TPP.shape[-1]))
    gram_TMM = gram_TMP.gather(2, member_TM[:, None, :].expand(-1, member_TM.shape[1], -1))
    square_TM = gram_TMM.diagonal(dim1=1, dim2=2)
    distance_TMM = (square_TM[:, :, None] + square_TM[:, None, :] - 2 * gram_TMM).clamp(min=0) / features_TPD.shape[-1]
    distance_TMM.diagonal(dim1=1, dim2=2).zero_()
    nearest = min(neighbours, member_TM.shape[1])
    density_TM = (-distance_TMM.topk(nearest, dim=-1, largest=False).values.mean(-1)).exp()
    distance_TMM = distance_TMM.sqrt()
    rank_TM = density_TM.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1)
    denser_TMM = rank_TM[:, None, :] < rank_TM[:, :, None]
    return density_TM * distance_to_denser(distance_TMM, denser_TMM)


def refine(labels: list[int]) -> list[int]:
    """Contiguous segments: each label keeps its longest runs (of two frames or more), and what lies between joins the
    longer neighbour, the left one if equal. Without any such run all frames are one segment."""
    runs = [(label, len(list(run))) for label, run in groupby(labels)]
    longest = {label: max(n for other, n in runs if other == label) for label in set(labels)}
    kept = [label if n == longest[label] > 1 else None for label, n in runs for _ in range(n)]
    blocks = [(label, len(list(run))) for label, run in groupby(kept)]
    done: list[tuple[int, int]] = []
    for (label, n), (right, right_n) in pairwise([*blocks, (None, 0)]):
        if label is None:
            left, left_n = done[-1] if done else (right or 0, 0)
            label = left if left_n >= right_n or right is None else right
        if done and done[-1][0] == label:
            n += done.pop()[1]
        done.append((label, n))
    return [label for label, n in done for _ in range(n)]


def run_lengths(labels: list[int]) -> list[int]:
    """Lengths of the runs of equal labels."""
    return [len(list(run)) for _, run in groupby(labels)]

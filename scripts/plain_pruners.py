"""Straightforward versions of visual stages, with the loops of their authors' code, for `bench_pruners.py` to time.

Written from the formulas of the specifications. Shape suffixes: T frames, P tokens per frame, D width, N tokens of the
video, C key width, K kept tokens, J neighbours, M dropped tokens.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from sharpv.pruners.divprune import DivPrune
from sharpv.pruners.dycoke import DyCokeMerge
from sharpv.pruners.prumerge import SHARE_WITHOUT_CLS, PruMerge
from sharpv.pruners.prumerge_plus import PruMergePlus
from sharpv.pruners.scissor import Scissor
from sharpv.tokens import Selection, VideoTokens

ROUNDING = 1e-4


def divprune_plain(video: VideoTokens, keep_ratio: float) -> torch.Tensor:
    """DivPrune as its authors write it: the whole distance matrix, and each pick looks at all chosen rows again."""
    unit_ND = functional.normalize(video.features_ND.float(), dim=-1)
    distance_NN = 1 - unit_ND @ unit_ND.T
    chosen_K = torch.empty(round(keep_ratio * len(unit_ND)), dtype=torch.long, device=video.device)
    for step in range(len(chosen_K)):
        if step:
            nearest_N = distance_NN[chosen_K[:step]].amin(0)
        else:
            nearest_N = distance_NN.topk(2, dim=0, largest=False).values[1]
        chosen_K[step] = nearest_N.argmax()
    return chosen_K


def dycoke_plain(video: VideoTokens, method: DyCokeMerge) -> torch.Tensor:
    """DyCoke's stage 1 with a loop over frames."""
    features_TPD, tokens = video.features_TPD.float(), video.tokens_per_frame
    every = list(range(video.frames))
    references: dict[int, int] = {}
    for pruned, reference in method.pairs(video.frames):
        references |= zip(every[pruned], every[reference], strict=True)
    parts = []
    for frame in every:
        kept_P = torch.arange(tokens, device=video.device)
        if frame in references:
            similarity_P = functional.cosine_similarity(features_TPD[frame], features_TPD[references[frame]], dim=-1)
            kept_P = similarity_P.topk(int(method.keep_ratio * tokens), largest=False).indices
        parts.append(kept_P + frame * tokens)
    return torch.cat(parts)


def prumerge_plain(video: VideoTokens, method: PruMerge) -> torch.Tensor:
    """PruMerge's merging as its authors loop, one kept token at a time; attention and choice are the method's."""
    score_TP, key_TPC = method.scores(video.tower)
    order_TP = score_TP.cpu().argsort(dim=-1, descending=True, stable=True)
    budget = int((method.keep_ratio or SHARE_WITHOUT_CLS) * video.tokens_per_frame)
    shares = method.outlier_shares(score_TP.cpu())
    frames = []
    for features_PD, score_P, key_PC, order_P, share in zip(
        video.features_TPD.float(), score_TP, key_TPC, order_TP, shares, strict=True
    ):
        unit_PC, kept = functional.normalize(key_PC, dim=-1), method.kept(order_P, share, budget).tolist()
        rows_KD = features_PD[:0]
        for token in kept:
            cosine_P = unit_PC @ unit_PC[token]
            cosine_P[token] = -torch.inf
            near_J = cosine_P.topk(method.neighbours).indices
            row_D = features_PD[token] + (score_P[near_J, None] * features_PD[near_J]).sum(0)
            rows_KD = torch.cat([rows_KD, row_D[None]])
        dropped_M = [token for token in range(video.tokens_per_frame) if token not in kept]
        remainder_D = (score_P[dropped_M, None] * features_PD[dropped_M]).sum(0)
        frames.append(torch.cat([rows_KD, remainder_D[None]]))
    return torch.cat(frames)


def scissor_plain(video: VideoTokens, method: Scissor) -> torch.Tensor:
    """LLaVA-Scissor with the released union-find; at this epsilon it samples every row, as the exact components do."""
    selection = Scissor(method.tau, epsilon=0.01, official=True).select(video)
    return selection.rows(video.features_ND)


def same_rows(ours: Selection, plain: torch.Tensor) -> bool:
    """Whether a straightforward version gave the same indices, in any order, or the same rows but for rounding."""
    if not plain.is_floating_point():
        return torch.equal(ours.origin_K.sort().values, plain.sort().values)
    return ours.features_KD.shape == plain.shape and bool((ours.features_KD - plain).abs().max() < ROUNDING)


PLAIN: dict[type, tuple[str, Callable[[VideoTokens, Any], torch.Tensor]]] = {
    DivPrune: ("full matrix, all chosen rows a pick", lambda video, method: divprune_plain(video, method.keep_ratio)),
    DyCokeMerge: ("loop over frames", dycoke_plain),
    PruMerge: ("loop over kept tokens", prumerge_plain),
    PruMergePlus: ("loop over kept tokens", prumerge_plain),
    Scissor: ("union-find link by link", scissor_plain),
}

"""Straightforward versions of visual stages, with the loops of their authors' code, for `bench_pruners.py` to time.

Written from the formulas of the specifications. Shape suffixes: T frames, P tokens per frame, D width, N tokens of the
video, C key width, K kept tokens, J neighbours, M dropped tokens.
"""

import math
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import torch
from torch.nn import functional

from sharpv.pruners.bipartite import BipartiteMerging
from sharpv.pruners.divprune import DivPrune
from sharpv.pruners.dycoke import DyCokeMerge
from sharpv.pruners.flashvid import FlashVID
from sharpv.pruners.holitom import HoliTom
from sharpv.pruners.prumerge import SHARE_WITHOUT_CLS, PruMerge
from sharpv.pruners.prumerge_plus import PruMergePlus
from sharpv.pruners.scissor import Scissor
from sharpv.pruners.tower_attention import attention_received
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


def holitom_plain(video: VideoTokens, method: HoliTom) -> torch.Tensor:
    """HoliTom with all products of static places over pairs of frames, as its authors count them, and a loop over each
    frame's tokens; clusters are the method's."""
    features_TPD, tokens = video.features_TPD.float(), video.tokens_per_frame
    attention_TP = attention_received(video.tower, method.layer).tolist()
    unit_TPD = functional.normalize(features_TPD, dim=-1)
    static_tP = functional.cosine_similarity(unit_TPD[:-1], unit_TPD[1:], dim=-1) > method.static_threshold
    best: list[tuple[int, list[tuple[int, int]]]] = [(0, [])]
    for last in range(video.frames):
        plans = [(best[last][0], [*best[last][1], (last, last)])]
        for first in range(last - 1, max(-1, last - method.max_window), -1):
            gain = int(static_tP[first:last].all(0).sum()) * (last - first)
            plans.append((best[first][0] + gain, [*best[first][1], (first, last)]))
        best.append(max(plans, key=lambda plan: plan[0]))
    saved, windows = best[-1]
    share, rows = min(method.keep_ratio / ((video.total - saved) / video.total), 1), [features_TPD[0, :0]]
    for first, last in windows:
        still_P = static_tP[first:last].all(0).tolist() if last > first else [False] * tokens
        still = [place for place in range(tokens) if still_P[place]]
        moving = [place for place in range(tokens) if not still_P[place]]
        rows.append(method.clusters(features_TPD[first : last + 1, still].mean(0), round(len(still) * share))[1])
        for frame in range(first, last + 1):
            ranked = sorted(moving, key=lambda place, frame=frame: -attention_TP[frame][place])
            rows.append(features_TPD[frame, sorted(ranked[: math.ceil(len(moving) * share)])])
    return torch.cat(rows)


def flashvid_plain(video: VideoTokens, method: FlashVID) -> torch.Tensor:
    """FlashVID whose choice looks at all chosen tokens again at each pick, frame by frame, as its authors gather them;
    the rest is the method's."""

    class Plain(FlashVID):
        def picks(self, features_TPD, attention_TP, lengths, count):
            frames = []
            for segment_LPD, paid_LP in zip(features_TPD.split(lengths), attention_TP.split(lengths), strict=True):
                mean_D = segment_LPD.mean((0, 1))
                for features_PD, paid_P in zip(segment_LPD, paid_LP, strict=True):
                    unit_PD = functional.normalize(features_PD, dim=-1)
                    distance_PP = (1 - unit_PD @ unit_PD.T).fill_diagonal_(0)
                    distance_PP = distance_PP * (paid_P * 1e6 * (features_PD @ mean_D))
                    chosen = [int(distance_PP.topk(2, dim=0, largest=False).values[1].argmax())]
                    while len(chosen) < count:
                        gap_P = distance_PP[chosen].amin(0)
                        gap_P[chosen] = -torch.inf
                        chosen.append(int(gap_P.argmax()))
                    frames.append(torch.tensor(sorted(chosen), device=paid_P.device))
            return torch.stack(frames)

    selection = Plain(**{each.name: getattr(method, each.name) for each in fields(method)}).select(video)
    return selection.rows(video.features_ND)


def bipartite_plain(video: VideoTokens, method: BipartiteMerging) -> torch.Tensor:
    """Bipartite merging with a loop over pairs."""
    rows = [(row_D, 1) for row_D in video.features_ND.float()]
    count = round(method.keep_ratio * video.total)
    while len(rows) > count:
        merges = min(len(rows) - count, len(rows) // 2)
        unit_ND = functional.normalize(torch.stack([row_D for row_D, _ in rows]), dim=-1)
        best_A, choice_A = (unit_ND[::2] @ unit_ND[1::2].T).max(-1)
        gone = set()
        for first in best_A.argsort(descending=True, stable=True)[:merges].tolist():
            source, target = 2 * first, 2 * int(choice_A[first]) + 1
            (one_D, one), (other_D, other) = rows[source], rows[target]
            rows[target] = ((one * one_D + other * other_D) / (one + other), one + other)
            gone.add(source)
        rows = [row for place, row in enumerate(rows) if place not in gone]
    return torch.stack([row_D for row_D, _ in rows])


def same_rows(ours: Selection, plain: torch.Tensor) -> bool:
    """Whether a straightforward version gave the same indices, in any order, or the same rows but for rounding."""
    if not plain.is_floating_point():
        return torch.equal(ours.origin_K.sort().values, plain.sort().values)
    return ours.features_KD.shape == plain.shape and bool((ours.features_KD - plain).abs().max() < ROUNDING)


PLAIN: dict[type, tuple[str, Callable[[VideoTokens, Any], torch.Tensor]]] = {
    DivPrune: ("full matrix, all chosen rows a pick", lambda video, method: divprune_plain(video, method.keep_ratio)),
    DyCokeMerge: ("loop over frames", dycoke_plain),
    BipartiteMerging: ("loop over pairs", bipartite_plain),
    FlashVID: ("all chosen tokens a pick, frame by frame", flashvid_plain),
    HoliTom: ("all pairs of frames, loop over tokens", holitom_plain),
    PruMerge: ("loop over kept tokens", prumerge_plain),
    PruMergePlus: ("loop over kept tokens", prumerge_plain),
    Scissor: ("union-find link by link", scissor_plain),
}

"""Replay of golden files: EVS, V-CAST, VisionZip, LLaVA-Scissor and FastVID.

Each function takes one file, hands its inputs to the public `select` of the class configured from the file's
metadata, and returns the number of indices compared and the largest float difference. AssertionError on a mismatch,
Declined for a file that is left out.

Shape suffixes: T frames, P tokens per frame, D width, A heads, E head width, X tower width, K kept rows.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from sharpv.pruners.evs import EVS
from sharpv.pruners.fastvid import FastVID
from sharpv.pruners.scissor import Scissor
from sharpv.pruners.vcast import VCast
from sharpv.pruners.visionzip import VisionZip
from sharpv.tokens import Tower, VideoTokens

from .recorded import Declined, Result, close, read, same


def tokens(features_TPD: torch.Tensor, seed: int = 0, tower: Tower | None = None) -> VideoTokens:
    return VideoTokens(features_TPD, (1, features_TPD.shape[1]), seed, tower)


def counts(origin_K: torch.Tensor, video: VideoTokens) -> torch.Tensor:
    return torch.bincount(origin_K // video.tokens_per_frame, minlength=video.frames)


def evs(path: Path) -> Result:
    golden, meta = read(path)
    video = tokens(golden["features"])
    selection = EVS(keep_ratio=1 - float(meta["pruning_rate"])).select(video)
    compared = same("kept_indices", selection.origin_K, golden["kept_indices"])
    return compared + same("budgets", counts(selection.origin_K, video), golden["budgets"]), 0.0


def vcast(path: Path) -> Result:
    golden, meta = read(path)
    video = tokens(golden["features"])
    method = VCast(float(meta["retain_ratio"]), int(meta["min_k"]), float(meta["budget_temp"]), official=True)
    selection = method.select(video)
    compared = same("kept_indices", selection.origin_K, golden["kept_indices"])
    return compared + same("budgets", counts(selection.origin_K, video), golden["budgets"]), 0.0


def attending(attention_TAP: torch.Tensor, keys_TPE: torch.Tensor, has_cls: bool) -> Tower:
    """A tower whose softmax rows all equal `attention_TAP` up to scale, and whose mean key over heads is `keys_TPE`.

    One more key channel holds the logits, once with each sign so that the mean over heads does not see it.
    """
    logits_TAP = attention_TAP.log() * (keys_TPE.shape[-1] + 1) ** 0.5
    sign_A = torch.tensor([1.0, -1.0]).repeat_interleave(logits_TAP.shape[1])
    extra_TAP1 = (logits_TAP.repeat(1, 2, 1) * sign_A[:, None])[..., None]
    keys_TAPE = torch.cat([keys_TPE[:, None].expand(-1, len(sign_A), -1, -1), extra_TAP1], -1)
    queries_TAPE = torch.zeros_like(keys_TAPE)
    queries_TAPE[..., -1] = sign_A[:, None]
    return Tower({-1: queries_TAPE}, {-1: keys_TAPE}, has_cls, keys_TPE[:, int(has_cls) :], None, lambda rows: rows)


def visionzip(path: Path) -> Result:
    golden, meta = read(path)
    if meta.get("newline_position") == "grid":
        raise Declined("records a defect of the port: dominant rows permuted before the grid's newlines are put in")
    if meta["method"] == "visionzip_clip":
        assert not golden["dominant_indices"][:, 0].any(), "the CLS token is expected among the dominant ones"
        features_TPD, output_TKD = golden["hidden_states"][:, 1:], golden["output"][:, 1:]
        dominant_TK, target_TK = golden["dominant_indices"][:, 1:] - 1, golden["contextual_target_indices"] - 1
        tower = attending(golden["cls_attention"], golden["keys"], has_cls=True)
    else:
        features_TPD, output_TKD = golden["features"], golden["output"]
        dominant_TK, target_TK = golden["dominant_indices"], golden["contextual_target_indices"]
        tower = attending(golden["attention"][:, None], golden["keys"], has_cls=False)
    video, count = tokens(features_TPD, tower=tower), output_TKD.shape[1]
    # Half a token more than are due, since the method rounds down and the share itself is rounded.
    share = float(meta.get("dominant_ratio", (dominant_TK.shape[1] + 0.5) / count))
    selection = VisionZip(count / video.tokens_per_frame, share).select(video)

    frame_T1 = torch.arange(video.frames)[:, None]
    assign_TP = selection.assign_N.unflatten(0, features_TPD.shape[:2]) - frame_T1 * count - dominant_TK.shape[1]
    merged_TP = torch.ones_like(assign_TP, dtype=torch.bool).scatter(1, torch.cat([dominant_TK, target_TK], 1), False)
    origin_TK = torch.cat([dominant_TK, target_TK], 1) + frame_T1 * video.tokens_per_frame
    compared = same("dominant and target indices", selection.origin_K, origin_TK.flatten())
    compared += same("merge_assignment", assign_TP[merged_TP], golden["merge_assignment"].flatten())
    return compared, close("output", selection.features_KD, output_TKD.flatten(0, 1), 1e-6)


def scissor(path: Path) -> Result:
    golden, meta = read(path)
    video = tokens(golden["features"], seed=int(meta["np_random_seed"]))
    method = Scissor(float(meta["tau"]), float(meta["epsilon"]), official=True)
    invariant = meta["order_invariant_runs"] == "20/20"
    compared, difference = 0, 0.0
    for each in [method, replace(method, official=False)] if invariant else [method]:
        selection = each.select(video)
        if len(golden["merged"]) == video.total and not each.official:
            compared += same("all kept", selection.origin_K, torch.arange(video.total))
            assert selection.features_KD is None, "nothing merges, yet rows are changed"
            continue
        lost = int(meta["lost_nodes_stage1"]) + int(meta["lost_nodes_stage2"])
        expected = {"spatial_rows": len(golden["stage1_tokens"]), "lost": lost}
        assert selection.notes == expected, f"notes: {selection.notes} instead of {expected}"
        size_K = torch.bincount(selection.assign_N, minlength=len(selection)) + 1
        compared += same("assignment", selection.assign_N, golden["assignment"])
        compared += same("counts", size_K, golden["counts"].long())
        difference = max(difference, close("merged", selection.features_KD, golden["merged"], 1e-6))
    return compared, difference


class RecordedHead(nn.Module):
    """A pooling head whose two outputs lie in the states it is given: attention in channel 0, the vector behind it."""

    def forward(self, states_TPX: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return states_TPX[:, 0, 1:], states_TPX[:, :, 0]


def fastvid(path: Path) -> Result:
    golden, meta = read(path)
    vector_TPX = golden["frame_global_features"][:, None].expand(-1, golden["attention"].shape[1], -1)
    states_TPX = torch.cat([golden["attention"][:, :, None], vector_TPX], -1)
    video = tokens(golden["features"], tower=Tower({}, {}, False, states_TPX, RecordedHead(), lambda rows: rows))
    method = FastVID(
        keep_ratio=float(meta["retention_ratio"]),
        segments=int(meta["DySeg_c"]),
        tau=float(meta["DySeg_tau"]),
        context_share=float(meta["STPrune_d"]),
        anchor_stride=int(meta["DTM_p"]),
        beta=float(meta["DTM_beta"]),
    )
    selection = method.select(video)
    compared = same("kept_indices", selection.origin_K, golden["kept_indices"])
    compared += same("budgets", counts(selection.origin_K, video), golden["budgets"])
    return compared, close("merged", selection.features_KD, golden["merged"], 1e-6)


CASES: dict[str, Callable[[Path], Result]] = {
    "evs": evs,
    "vcast": vcast,
    "visionzip": visionzip,
    "scissor": scissor,
    "fastvid": fastvid,
}

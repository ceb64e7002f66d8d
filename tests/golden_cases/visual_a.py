"""Replay of golden files: PruMerge, DyCoke stage 1, DivPrune, PruneVid stage 1 and VidCom2.

Functions and their results as in `visual_b`. Shape suffixes: T frames, P tokens per frame, N = T * P, K kept tokens,
J neighbours, M dropped tokens or clusters.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from sharpv.pruners.clustering import dpc_knn, refine, run_lengths
from sharpv.pruners.divprune import DivPrune
from sharpv.pruners.dycoke import DyCokeMerge
from sharpv.pruners.prumerge import PruMerge
from sharpv.pruners.prumerge_plus import PruMergePlus
from sharpv.pruners.prunevid import PruneVidMerge
from sharpv.pruners.vidcom2 import VidCom2
from sharpv.tokens import Selection, Tower, VideoTokens

from .recorded import Declined, Result, close, read, same


def square(features_TPD: torch.Tensor, tower: Tower | None = None) -> VideoTokens:
    """A video on the most nearly square grid that holds its tokens."""
    tokens = features_TPD.shape[1]
    height = next(h for h in range(math.isqrt(tokens), 0, -1) if tokens % h == 0)
    return VideoTokens(features_TPD, (height, tokens // height), tower=tower)


ROUNDING = 1e-5
"""Cosine distances up to it may be those of copies, which only the official rule picks again."""


def rows_of(selection: Selection, video: VideoTokens) -> torch.Tensor:
    return selection.rows(video.features_ND)


def prumerge(path: Path) -> Result:
    golden, meta = read(path)
    if "EffiVLM-Bench" in meta["repo"]:
        raise Declined("recorded from a third party's port, which is not the authors' method")
    # The method joins the heads, so that one of full width is as good as any number.
    query, key = (golden[name][:, None] for name in ("q", "k"))
    tower = Tower({-1: query}, {-1: key}, True, golden["features"], None, lambda rows: rows)
    video = square(golden["features"], tower)
    method = prumerge_method(meta)
    selection = method.select(video)

    frame_T1 = torch.arange(video.frames)[:, None] * video.tokens_per_frame
    origin_TK = selection.origin_K.unflatten(0, (video.frames, -1))
    compared = same("kept_idx", origin_TK[:, :-1] - frame_T1, golden["kept_idx"])
    compared += same("remainder", origin_TK[:, -1], torch.full((video.frames,), -1))
    remainder_T1 = (torch.arange(video.frames)[:, None] + 1) * origin_TK.shape[1] - 1
    into_TP = selection.assign_N.unflatten(0, (video.frames, -1)) == remainder_T1
    for frame, into_P in enumerate(into_TP):
        kept_K, dropped_M = golden["kept_idx"][frame], into_P.nonzero().flatten()
        compared += same("complement_idx", dropped_M, golden["complement_idx"][frame])
        candidate_P = torch.cat([kept_K, dropped_M])
        near_KJ = method.nearest(golden["k"][frame, 1:], kept_K, candidate_P)
        compared += same("neighbour_idx", candidate_P[near_KJ], golden["neighbour_idx"][frame])
    difference = close("cls_attn", method.scores(tower)[0], golden["cls_attn"], 1e-6)
    return compared, max(difference, close("merged", selection.features_KD, golden["merged"].flatten(0, 1), 1e-5))


def prumerge_method(meta: dict[str, str]) -> PruMerge:
    plus = meta["function"].endswith("_plus")
    # Sampled places double the official ratio in PruMerge+, while PruMerge keeps just that share.
    share = None if meta["if_adaptive"] == "True" else (1 + plus) * float(meta["reduction_ratio_arg"])
    method = PruMergePlus if plus else PruMerge
    made = method(keep_ratio=share, neighbours=int(meta["knn"]), fence=float(meta["iqr_factor"]), official=True)
    return replace(made, range_end=int(meta.get("spatial_range_end", 575))) if plus else made


def dycoke(path: Path) -> Result:
    golden, meta = read(path)
    if "frame_counts" not in golden:
        raise LookupError("a file of stage 2, the memory stage")
    video = square(golden["features"])
    selection = DyCokeMerge(keep_ratio=1 - float(meta["K"]), official=True).select(video)
    compared = same("kept", selection.origin_K, golden["kept"])
    counts_T = torch.tensor(selection.per_frame(video)).long()
    compared += same("frame_counts", counts_T, golden["frame_counts"])
    return compared, close("features_out", rows_of(selection, video), golden["features_out"], 0)


def divprune(path: Path) -> Result:
    golden, meta = read(path)
    end_to_end = "SUBSET_RATIO" in meta
    video = square(golden["features"] if end_to_end else golden["features"][None])
    method = DivPrune(float(meta["SUBSET_RATIO" if end_to_end else "threshold_ratio"]), official=True)
    pick_K, distance_K = method.picks(video.features_ND)
    compared = same("selected_idx", pick_K, golden["selected_idx"])
    won_K = golden.get("maxmin_distance", distance_K)
    if len(won_K) and bool((won_K > ROUNDING).all()):
        default_K, _ = replace(method, official=False).picks(video.features_ND)
        compared += same("selected_idx unless official", default_K, golden["selected_idx"])
    selection = method.select(video)
    if not end_to_end:
        compared += same("kept_sorted", selection.origin_K, golden["kept_sorted"])
        # A zero vector's distances are NaN in both.
        distances = (distance_K.nan_to_num(-1), won_K.nan_to_num(-1))
        return compared, close("maxmin_distance", *distances, 1e-5)
    start, prompt = int(meta["SYS_TOKEN_LEN"]), golden["full_inputs_embeds"][0]
    stop = start + int(meta["img_feature_len"])
    keep = torch.cat([torch.arange(start), selection.origin_K + start, torch.arange(stop, len(prompt))])
    compared += same("keep_indexs", keep, golden["keep_indexs"])
    fed = torch.cat([prompt[:start], rows_of(selection, video), prompt[stop:]])
    return compared, close("out_inputs_embeds", fed[None], golden["out_inputs_embeds"], 0)


class Recorded(PruneVidMerge):
    """The method with density noise that was recorded, where a file holds any."""

    draws: tuple[torch.Tensor, ...] = ()

    def replay(self, golden: dict[str, torch.Tensor]) -> None:
        self.draws = golden["density_noise"].split(golden["density_noise_lengths"].tolist())

    def draw(self, count: int, generator: torch.Generator) -> torch.Tensor:
        if not self.noise:
            return torch.zeros(count)
        noise_N, *self.draws = self.draws
        return noise_N


def prunevid(path: Path) -> Result:
    golden, meta = read(path)
    if "centers" in golden:
        return _dpc_knn(golden, meta)
    if "refined" in golden:
        return _refine_table(golden)
    if "assign" not in golden:
        raise LookupError("a file of stage 2, the memory stage, or of the whole model")
    noisy = "density_noise_lengths" in golden
    video = square(golden["features"])
    method = Recorded(
        noise=1e-6 if noisy else 0,
        keep_ratio=float(meta["cluster_ratio"]),
        static_threshold=float(meta["tau"]),
        segment_ratio=float(meta["temporal_segment_ratio"]),
        neighbours=int(meta["k"]),
        merge_above=int(meta["spatial_min_tokens"]),
        official=True,
    )
    if noisy:
        method.replay(golden)
    selection = method.select(video)
    assert not method.draws, f"{len(method.draws)} clusterings fewer than recorded"
    compared = same("assign", selection.assign_N, golden["assign"].flatten())

    windows = golden["window_sizes"].tolist()
    sizes = torch.bincount(selection.group_K, minlength=video.frames + len(windows)).split([w + 1 for w in windows])
    compared += same("static_sizes", torch.stack([size[0] for size in sizes]), golden["static_sizes"])
    compared += same("dynamic_sizes", torch.stack([size[1:].sum() for size in sizes]), golden["dynamic_sizes"])
    compared += same("static_mask", method.static_places(golden["features"], windows).long(), golden["static_mask"])
    if noisy:
        method.replay(golden)
    raw = method.frame_clusters(golden["features"], video.generator())
    compared += same("frame_clusters_raw", torch.tensor(raw), golden["frame_clusters_raw"])
    compared += same("frame_clusters_refined", torch.tensor(refine(raw)), golden["frame_clusters_refined"])
    compared += same("window_sizes", torch.tensor(run_lengths(refine(raw))), golden["window_sizes"])
    return compared, close("merged_features", selection.features_KD, golden["merged_features"], 1e-5)


def _dpc_knn(golden: dict[str, torch.Tensor], meta: dict[str, str]) -> Result:
    x_1ND = golden["x"][None]
    label_1N, center_1M = dpc_knn(x_1ND, int(meta["cluster_num"]), int(meta["k"]), torch.zeros(x_1ND.shape[:2]))
    compared = same("cluster_idx", label_1N[0], golden["cluster_idx"])
    return compared + same("centers", center_1M[0], golden["centers"]), 0.0


def _refine_table(golden: dict[str, torch.Tensor]) -> Result:
    refined = [refine(row) for row in golden["labels"].tolist()]
    width = golden["segment_lengths"].shape[1]
    lengths = [(run_lengths(row) + [0] * width)[:width] for row in refined]
    compared = same("refined", torch.tensor(refined), golden["refined"])
    return compared + same("segment_lengths", torch.tensor(lengths), golden["segment_lengths"]), 0.0


def vidcom2(path: Path) -> Result:
    golden, meta = read(path)
    video = square(golden["features"])
    method = VidCom2(
        keep_ratio=float(meta["base_scale"]),
        channel_ratio=float(meta["channel_ratio"]),
        temperature=float(meta["temperature"]),
        widths=tuple(map(float, meta["alphas"].split(","))),
    )
    selection = method.select(video)
    compared = same("kept_indices", selection.origin_K, golden["kept_indices"])
    channels = method.channels(golden["features"])
    compared += same("channel_indices", channels.sort().values, golden["channel_indices"].sort().values)
    video_TP, frame_TP = method.scores(golden["features"])
    uniqueness_T, share_T = method.shares(video_TP)
    compared += same("budgets", method.budgets(share_T, video), golden["budgets"])
    compared += same("budgets met", torch.tensor(selection.per_frame(video)).long(), golden["budgets"])
    return compared, max(
        close("video_score", video_TP, golden["video_score"], 1e-6),
        close("frame_score", frame_TP, golden["frame_score"], 1e-6),
        close("frame_uniqueness", uniqueness_T, golden["frame_uniqueness"], 1e-6),
        close("scales", share_T, golden["scales"], 2e-6),
    )


CASES: dict[str, Callable[[Path], Result]] = {
    "prumerge": prumerge,
    "dycoke": dycoke,
    "divprune": divprune,
    "prunevid": prunevid,
    "vidcom2": vidcom2,
}

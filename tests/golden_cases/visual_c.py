"""Replay of golden files: the outer stages of HoliTom and FlashVID. Functions as in `visual_b`.

Shape suffixes: T frames, P tokens per frame, D width, K kept rows.
"""

import json
from collections.abc import Callable
from pathlib import Path

import torch

from sharpv.pruners.flashvid import FlashVID
from sharpv.pruners.holitom import HoliTom, adjacent_cosines, best_windows, static_counts, static_runs
from sharpv.tokens import VideoTokens

from .recorded import Declined, Result, close, read, same
from .visual_b import attending, counts, tokens

ROWS = 1e-5
INNER = "a file of the inner stage, the memory stage"


def holitom(path: Path) -> Result:
    golden, meta = read(path)
    if "cases" in meta:
        return holitom_windows(golden, meta)
    if "features" not in golden:
        raise LookupError(INNER)
    if int(meta["D"]):
        raise Declined("clustering of the other tokens, which the authors' code cannot run")
    video = attended_video(golden)
    method = HoliTom(
        *(float(meta[name]) for name in ("retain_ratio", "tau", "beta")),
        *(int(meta[name]) for name in ("K", "max_window_size")),
    )
    selection = method.select(video)
    found, saved = windows_of(golden["feature_sim"], method.static_threshold, method.max_window)
    compared = same("windows", found, golden["windows"])
    origin_K, rows_KD = selection.origin_K, selection.features_KD
    recorded_K, recorded_KD = golden["kept_indices"], golden["merged"]
    if meta["newline_position"] == "grid":
        # LLaVA-Video's rows stand in the grid of their frame, with a newline (-1) behind each grid row.
        order_K = origin_K.argsort()
        origin_K, rows_KD = origin_K[order_K], rows_KD[order_K]
        recorded_K, recorded_KD = recorded_K[recorded_K >= 0], recorded_KD[recorded_K >= 0]
    else:
        compared += same("assign", selection.assign_N, golden["assign"])
    compared += same("kept_indices", origin_K, recorded_K)
    return compared, max(
        close("feature_sim", adjacent_cosines(golden["features"]), golden["feature_sim"], ROWS),
        close("total_reduced", torch.tensor([saved]), golden["total_reduced"], 0.0),
        close("merged", rows_KD, recorded_KD, ROWS),
    )


def attended_video(golden: dict[str, torch.Tensor]) -> VideoTokens:
    """The file's tokens and a tower that attends to them as recorded."""
    features_TPD, attention_TP = golden["features"], golden["attention"]
    tower = attending(attention_TP[:, None], torch.zeros(*attention_TP.shape, 1), has_cls=False)
    return tokens(features_TPD, tower=tower)


def windows_of(cosine_tP: torch.Tensor, threshold: float, max_window: int) -> tuple[torch.Tensor, int]:
    table = static_counts(static_runs(cosine_tP > threshold)).tolist()
    windows, saved = best_windows(table, max_window)
    return torch.tensor(windows), saved


def holitom_windows(golden: dict[str, torch.Tensor], meta: dict[str, str]) -> Result:
    compared = 0
    for number, case in enumerate(json.loads(meta["cases"])):
        name = f"case{number}."
        windows, saved = windows_of(golden[f"{name}feature_sim"], case["tau"], case["max_window_size"])
        compared += same(f"{name}windows", windows, golden[f"{name}windows"])
        compared += same(f"{name}total_reduced", torch.tensor([saved]), golden[f"{name}total_reduced"].long())
    return compared, 0.0


def flashvid(path: Path) -> Result:
    golden, meta = read(path)
    if "cases" in meta:
        cases = json.loads(meta["cases"])
        return (flashvid_segments if "case0.frames" in golden else flashvid_picks)(golden, cases)
    if "features" not in golden:
        raise LookupError(INNER)
    video, method = attended_video(golden), flashvid_method(golden, meta)
    selection, free_TP = method.select(video), torch.ones_like(golden["attention"], dtype=torch.bool)
    lengths = method.segment_lengths(golden["features"].mean(1))
    pick_TA = method.picks(golden["features"], golden["attention"], lengths, int(meta["num_attn_div_tokens"]))
    compared = same("segment_lengths", torch.tensor(lengths), golden["segment_lengths"])
    compared += same("adts_indices", pick_TA, golden["adts_indices"])
    compared += same("kept_indices", selection.origin_K, golden["kept_indices"])
    compared += same("budgets", counts(selection.origin_K, video), golden["budgets"])
    difference = close("merged", selection.features_KD, golden["merged"], ROWS)
    if "tree_indices" in golden:
        tree_TPD, candidate_TP, _ = method.trees(
            golden["features"], free_TP.scatter(1, pick_TA, False), lengths, int(meta["token_budget"])
        )
        in_trees_T = torch.cat([torch.full((length,), length > 1) for length in lengths])
        index_M = (candidate_TP & in_trees_T[:, None]).flatten().nonzero().flatten()
        compared += same("tree_indices", index_M, golden["tree_indices"])
        difference = max(difference, close("tree_tokens", tree_TPD.flatten(0, 1)[index_M], golden["tree_tokens"], ROWS))
    return compared, difference


def flashvid_method(golden: dict[str, torch.Tensor], meta: dict[str, str]) -> FlashVID:
    """The released method with the file's settings and, frame by frame, its draws of noise."""
    method = FlashVID(
        *(float(meta[name]) for name in ("retention_ratio", "expansion", "alpha", "segment_threshold")),
        int(meta["min_segment_num"]),
        meta["complementary_segment"] == "True",
        float(meta["temporal_threshold"]),
        meta["token_selection_method"],
        noise=1e-6,
        official=True,
    )
    if meta["do_segment"] != "True":
        method.segment_threshold, method.segments = -2.0, 1
    draws = iter(golden["density_noise"].tolist())
    method.draw = lambda count, generator: torch.tensor([next(draws, 0.0) for _ in range(count)])
    return method


def flashvid_segments(golden: dict[str, torch.Tensor], cases: list[dict]) -> Result:
    compared = 0
    for number, case in enumerate(cases):
        method = FlashVID(
            segment_threshold=case["threshold"], segments=case["min_segments"], complementary=case["complementary"]
        )
        lengths = method.segment_lengths(golden[f"case{number}.frames"])
        compared += same(f"case{number}", torch.tensor(lengths), golden[f"case{number}.segment_lengths"])
    return compared, 0.0


def flashvid_picks(golden: dict[str, torch.Tensor], cases: list[dict]) -> Result:
    compared = 0
    for number, case in enumerate(cases):
        features_LPD, attention_LP = golden[f"case{number}.features"], golden[f"case{number}.attention"]
        for choice in ("attn_div_v2", "attn_div", "attn", "div"):
            method = FlashVID(choice=choice, official=True)
            pick_LA = method.picks(features_LPD, attention_LP, [len(features_LPD)], case["n"])
            recorded_LA = golden[f"case{number}.{choice}"]
            pairs = [(pick_LA, recorded_LA)]
            if choice == "attn_div_v2" and case["repeats_v2"]:
                # Which token is repeated is rounding noise.
                pairs = [(ours.unique(), theirs.unique()) for ours, theirs in zip(pick_LA, recorded_LA, strict=True)]
            compared += sum(same(f"case{number}.{choice}", *pair) for pair in pairs)
    return compared, 0.0


CASES: dict[str, Callable[[Path], Result]] = {"holitom": holitom, "flashvid": flashvid}

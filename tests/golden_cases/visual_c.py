"""Replay of golden files: the outer stages of HoliTom and FlashVID. Functions as in `visual_b`.

Shape suffixes: T frames, P tokens per frame, D width, K kept rows.
"""

import json
from collections.abc import Callable
from pathlib import Path

import torch

from sharpv.pruners.holitom import HoliTom, adjacent_cosines, best_windows, static_counts, static_runs
from sharpv.tokens import VideoTokens

from .recorded import Declined, Result, close, read, same
from .visual_b import attending, tokens

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


CASES: dict[str, Callable[[Path], Result]] = {"holitom": holitom}

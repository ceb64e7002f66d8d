"""A visual stage as the two pure functions that vLLM asks of a method of video pruning.

vLLM writes a prompt's placeholders before any tensor exists, from a count; the model later keeps that many rows by a
mask. Both must agree to the token. Contract read in vLLM 0.33.0, `vllm/multimodal/video_prune/`; docs/vllm.md.

Shape suffixes: T frames, P tokens per frame, N = T * P, D width.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import torch

from sharpv.pruners.base import VisualPruner
from sharpv.tokens import Selection, VideoTokens

WIDTH = 16
"""Of the made-up videos that a stage's count is read from."""
FRAMES, GRID, RATES = (6, 9), (4, 6), (0.1, 0.35, 0.5, 0.7)
"""Of those that tell whether it follows from the video. At a low rate, frames that are given much are cut off at all
that they have; at another, only their rounding differs."""


class VideoPrune(NamedTuple):
    """compute_retained_tokens_count(tokens_per_frame, num_frames, q) -> int;
    compute_retention_mask(video_embeds (N, D), video_size_thw, spatial_merge_size, q) -> bool (N,)."""

    compute_retained_tokens_count: Callable[..., int]
    compute_retention_mask: Callable[..., torch.Tensor]


def video_prune(stage: VisualPruner, width: int | None = None) -> VideoPrune:
    """The pair of a stage, whose own `keep_ratio` gives way to 1 - q of vLLM's pruning rate q at each call.

    A stage keeps the same number of tokens of every video of a shape, or it has `importance(features_TPD)` (T, P), high
    = keep: then the count is max(T, floor(N (1 - q))), and its mask is brought to it by importance, the least important
    dropped or the most important added, over the whole video: the rule of vLLM's own VidCom2. Which of both it is, is
    read from its selections on made-up videos, and held against every mask. width: leading features of a token that it
    reads, where a model puts others behind them, as Qwen3-VL its DeepStack levels; None = all.

    ValueError for a stage that no such pair can stand for: one without a keep_ratio, with neither a fixed count nor an
    importance, whose rows are merged ones, or which reads the vision tower or the question. A mask is in prompt order,
    and has no seed of a sample: a method that draws numbers draws the same for every video.
    """
    _require_mask(stage)
    fixed = _has_fixed_count(stage)
    if not fixed and not hasattr(stage, "importance"):
        raise ValueError(
            f"{_name(stage)} keeps more of one video than of another, but vLLM needs the count before it sees the "
            "video, and the method has no importance of single tokens by which its choice could be brought to a count: "
            "take a stage with a set budget"
        )

    @lru_cache(maxsize=1024)
    def count(tokens_per_frame: int, num_frames: int, q: float) -> int:
        total = tokens_per_frame * num_frames
        if not fixed:
            _require_rate(q)
            return min(total, max(num_frames, int(total * (1 - q))))
        return len(_at_rate(stage, q).select(_made_up(num_frames, (1, tokens_per_frame))))

    def mask(
        video_embeds: torch.Tensor, video_size_thw: torch.Tensor | tuple, spatial_merge_size: int, q: float
    ) -> torch.Tensor:
        frames, height, width_raw = map(int, video_size_thw)
        grid = height // spatial_merge_size, width_raw // spatial_merge_size
        video = VideoTokens(video_embeds[:, :width].unflatten(0, (frames, -1)), grid)
        rated, wanted = _at_rate(stage, q), count(video.tokens_per_frame, frames, q)
        keep_N = _mask(rated.select(video), video.total)
        if not fixed:
            return _reconciled(keep_N, rated.importance(video.require_finite()).flatten(), wanted)
        if (kept := int(keep_N.sum())) != wanted:
            raise ValueError(
                f"{_name(stage)} kept {kept} tokens of a video of {frames} x {grid[0]} x {grid[1]}, where the prompt "
                f"has {wanted} placeholders: its count follows from the video, and it gives no importance"
            )
        return keep_N

    return VideoPrune(count, mask)


def _require_mask(stage: VisualPruner) -> None:
    """ValueError for a stage that a share and the projected tokens alone do not make choose among them."""
    reads = "the vision tower" if stage.tower_layers is not None else "the question" if stage.reads_question else None
    if reads:
        raise ValueError(f"{_name(stage)} reads {reads}, but vLLM hands a method the projected tokens only")
    if getattr(stage, "keep_ratio", None) is None:
        raise ValueError(
            f"{_name(stage)} has no keep_ratio, so that vLLM's pruning rate means nothing to it: take a stage with a "
            "set budget"
        )


def _has_fixed_count(stage: VisualPruner) -> bool:
    """Whether it keeps as many tokens of a still video as of a moving one and of one with a cut."""
    return all(len(_counts(_at_rate(stage, q), frames)) == 1 for q in RATES for frames in FRAMES)


def _counts(stage: VisualPruner, frames: int) -> set[int]:
    """How many tokens it keeps of made-up videos of one shape."""
    moving, place_T = _made_up(frames, GRID), torch.arange(frames)
    videos = [replace(moving, features_TPD=moving.features_TPD[of_T]) for of_T in (place_T, 0 * place_T, place_T // 4)]
    return {int(_mask(stage.select(video), video.total).sum()) for video in videos}


def _made_up(frames: int, grid: tuple[int, int]) -> VideoTokens:
    """A video that moves everywhere, and in some frames more than in others."""
    generator = torch.Generator().manual_seed(0)
    noise_TPD = torch.randn(frames, grid[0] * grid[1], WIDTH, generator=generator)
    step_T11 = torch.linspace(0.1, 1, frames)[:, None, None]
    return VideoTokens((noise_TPD * step_T11).cumsum(0), grid)


def _mask(selection: Selection, total: int) -> torch.Tensor:
    """bool (N,), on the selection's device: the tokens that are fed, each as it is."""
    origin_K = selection.origin_K
    if selection.features_KD is not None or bool((origin_K < 0).any()):
        raise ValueError("the rows that the stage feeds are made of several tokens, but vLLM's contract is a mask")
    return torch.zeros(total, dtype=torch.bool, device=origin_K.device).index_fill_(0, origin_K, True)


def _reconciled(keep_N: torch.Tensor, importance_N: torch.Tensor, wanted: int) -> torch.Tensor:
    """The mask with so many tokens kept: those of it go first, then the others, each by falling importance."""
    order_N = importance_N.argsort(descending=True, stable=True)
    order_N = order_N[keep_N[order_N].int().argsort(descending=True, stable=True)]
    return torch.zeros_like(keep_N).index_fill_(0, order_N[:wanted], True)


def _at_rate(stage: VisualPruner, q: float) -> Any:
    _require_rate(q)
    changed: Any = stage
    return replace(changed, keep_ratio=1 - q)


def _require_rate(q: float) -> None:
    if not 0 <= q < 1:
        raise ValueError(f"q={q} is the share of a video's tokens to drop (--video-pruning-rate); choose it in [0, 1)")


def _name(stage: VisualPruner) -> str:
    return type(stage).__name__

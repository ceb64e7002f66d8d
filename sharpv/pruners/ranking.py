"""Visual rows ranked by the attention of the prompt's last row, as FastV's successors do.

Shape suffixes: V visual rows alive, K kept rows.
"""

import torch

from sharpv.pruners.view import Layer


def last_row_scores(layer: Layer) -> torch.Tensor:
    """Attention that the prompt's last row pays each visual row alive in this layer, mean over heads; float32 (V,)."""
    return layer.attention_rows([-1])[:, -1].mean(0)[layer.visual_slice]


def scores_of_layer_before(layer: Layer, first_short: int, state: dict[str, torch.Tensor]) -> torch.Tensor | None:
    """In layer `first_short` the scores of the layer before, kept in `state["scores"]` until then; None elsewhere."""
    if layer.index == first_short - 1:
        state["scores"] = last_row_scores(layer)
    return state["scores"] if layer.index == first_short else None


def require_late_layer(layer: int, keep_ratio: float) -> None:
    """ValueError where no layer lies before `layer` to give scores, or `keep_ratio` is no share to go on with."""
    if not 0 < keep_ratio <= 1:
        raise ValueError(f"keep_ratio={keep_ratio} is the share that goes on; choose it in (0, 1]")
    if layer < 1:
        raise ValueError(f"layer={layer} must be at least 1: the layer before it gives the scores")


def mean_share(keep_ratio: float, first_short: int, depth: int) -> float:
    """Of the rows, mean over layers, where from `first_short` on only `keep_ratio` of them are computed."""
    return (first_short + (depth - first_short) * keep_ratio) / depth


def ratio_behind(share: float, first_short: int, depth: int) -> float:
    """The keep_ratio from layer `first_short` on that makes the mean over layers `share`; ValueError for none."""
    ratio = (share * depth - first_short) / (depth - first_short) if first_short < depth else 0.0
    if ratio <= 0:
        raise ValueError(
            f"its first {first_short} of {depth} layers compute all rows, {first_short / depth:.1%} on average: no "
            f"ratio behind them makes it {share:.1%}"
        )
    return min(ratio, 1.0)


def highest(scores_V: torch.Tensor, count: int) -> torch.Tensor:
    """Indices of the highest scores by falling score (K,); the earlier of equal ones first."""
    return scores_V.argsort(descending=True, stable=True)[:count]

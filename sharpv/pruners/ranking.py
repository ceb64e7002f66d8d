"""Visual rows ranked by the attention of the prompt's last row, as FastV's successors do.

Shape suffixes: V visual rows alive, K kept rows.
"""

import torch

from sharpv.pruners.base import Layer


def last_row_scores(layer: Layer) -> torch.Tensor:
    """Attention that the prompt's last row pays each visual row alive in this layer, mean over heads; float32 (V,)."""
    return layer.attention_rows([-1])[:, -1].mean(0)[layer.visual_slice]


def highest(scores_V: torch.Tensor, count: int) -> torch.Tensor:
    """Indices of the highest scores by falling score (K,); the earlier of equal ones first."""
    return scores_V.argsort(descending=True, stable=True)[:count]

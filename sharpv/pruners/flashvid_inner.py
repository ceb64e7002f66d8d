"""FlashVID, inner stage: past two thirds of the layers, the tokens that the prompt's last one attends to go on.

Shape suffixes: H query heads, N alive rows, E head width, V visual rows alive, K kept rows.
"""

import math
from dataclasses import dataclass, replace
from typing import Self

import torch

from sharpv.checks import require_fields
from sharpv.pruners.base import MemoryPruner, scaled_layer
from sharpv.pruners.ranking import highest, mean_share, ratio_behind, require_late_layer, scores_of_layer_before
from sharpv.pruners.view import Layer, Layout, Site
from sharpv.tokens import Selection


@dataclass
class FlashVIDInner(MemoryPruner):
    """The attention that the prompt's last token pays the visual tokens in one late layer, averaged over heads, ranks
    them; from the next layer on only the best are computed and cached, at their original positions.

    Paper: FlashVID, ICLR 2026 (arXiv 2602.08024). Official: Fanziyang-v/FlashVID @
    1d37422c5afcaa15ee46b5355f5ba798fa93290a.

    layer: pruning_layer; the first that runs short, the layer before it gives the scores (a 28-layer model's number;
    scale_layers=False takes it as it is). keep_ratio: llm_retention_ratio; ceil(keep_ratio * V) rows go on.

    Promises: sorted, unique, declared count.
    Complexity: O(H N E) time beside one key projection, O(H N) memory, once; the authors' is the same. No read-back.
    Deviations: separator rows of the video count as text (officially so for LLaVA-OneVision, not for LLaVA-Video, whose
    newlines compete). Equal scores go to the earlier token. Probabilities stay float32.
    """

    layer: int = 20
    keep_ratio: float = 0.3
    scale_layers: bool = True

    def __post_init__(self) -> None:
        require_fields(self)
        require_late_layer(self.layer, self.keep_ratio)
        self.may_keep_all = self.keep_ratio == 1

    def check(self, depth: int) -> None:
        self.first_short(depth)

    def first_short(self, depth: int) -> int:
        """The first layer that runs on the kept rows only."""
        return scaled_layer(self.layer, depth, self.scale_layers)

    def mean_share(self, depth: int) -> float:
        return mean_share(self.keep_ratio, self.first_short(depth), depth)

    def at_budget(self, share: float, depth: int) -> Self:
        return replace(self, keep_ratio=ratio_behind(share, self.first_short(depth), depth))

    def begin(self, layout: Layout) -> dict[str, torch.Tensor]:
        """Holds `scores`, float32 (V,), high = keep, once the layer before has been entered."""
        return {}

    def keep_rows(self, layer: Layer, site: Site, state: dict[str, torch.Tensor]) -> Selection | None:
        scores_V = scores_of_layer_before(layer, self.first_short(layer.depth), state)
        if scores_V is None:
            return None
        best_K = highest(scores_V, math.ceil(len(layer.alive_V) * self.keep_ratio))
        return Selection(layer.alive_V[best_K.sort().values], positions="original")

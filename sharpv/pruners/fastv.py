"""FastV: after a few layers, only the visual tokens that the last prompt token attends to go on.

Shape suffixes: H query heads, N alive rows, V visual rows alive, K kept rows.
"""

from dataclasses import dataclass, replace
from typing import Literal, Self

import torch

from sharpv.checks import require_fields
from sharpv.pruners.base import MemoryPruner, scaled_layer
from sharpv.pruners.ranking import highest, mean_share, ratio_behind, require_late_layer, scores_of_layer_before
from sharpv.pruners.view import Layer, Layout, Site
from sharpv.tokens import Selection


@dataclass
class FastV(MemoryPruner):
    """Runs the first layers on the whole prompt and ranks the visual tokens by the attention that the prompt's last
    token pays them in the last of these layers, averaged over heads. From the next layer on, only the best ranked are
    computed and cached, at their original positions; all text stays.

    Paper: FastV, ECCV 2024 (arXiv 2403.06764). Official: pkunlp-icler/FastV @ d1659729b5bf1be225e99ee15783deeea80f63b1,
    of whose five variants this is the cached one that drops rows.

    layer: K; layers 0..K-1 see all rows, layer K-1 gives the scores (a 28-layer model's number; scale_layers=False
    takes it as it is). keep_ratio: 1 - R; the share that goes on after layer K. rounding: of keep_ratio * V, `even`
    (half to even, the demo) or `floor` (the lmms-eval port, whose `ratio` is keep_ratio).

    Promises: sorted, unique, declared count.
    Complexity: O(H N E) time beside one key projection, O(H N) memory, once; the authors form all H N^2 attentions of
    layer K-1.
    Deviations: SharpV's "layer 3, ratio 0.3" is read as K = 3 and a kept share, by inference. Separator rows behind the
    video (newline) count as text. A K from the depth on, with which the authors prune nothing, is refused. Equal scores
    go to the earlier token. Probabilities stay float32; the official cast to bfloat16 makes about a third of 670 scores
    tie, and a float32 row then keeps 1 or 2 of 201 tokens others.
    """

    layer: int = 3
    keep_ratio: float = 0.3
    rounding: Literal["even", "floor"] = "even"
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
        """Holds `scores`, float32 (V,), high = keep, once layer K-1 has been entered."""
        return {}

    def keep_rows(self, layer: Layer, site: Site, state: dict[str, torch.Tensor]) -> Selection | None:
        scores_V = scores_of_layer_before(layer, self.first_short(layer.depth), state)
        if scores_V is None:
            return None
        ideal = self.keep_ratio * len(layer.alive_V)
        count = round(ideal) if self.rounding == "even" else int(ideal)
        best_K = highest(scores_V, count)
        return Selection(layer.alive_V[best_K.sort().values], positions="original")

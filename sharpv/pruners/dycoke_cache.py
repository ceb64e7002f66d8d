"""DyCoke, stage 2: each decode step reads only the cached visual rows that matter to the token being decoded.

Shape suffixes: H query heads, N cached rows and the new one, V visual rows scored, K rows read.
"""

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch.nn import functional

from sharpv.checks import require_fields
from sharpv.pruners.base import MemoryPruner, scaled_layer
from sharpv.pruners.view import Layer, Layout


@dataclass
class StepState:
    """scores_V: of the latest step, high = read. similarity: of these to the step before's, 0 where there was none.
    read_K: the rows that this step's deep layers read, ascending; None = all."""

    scores_V: torch.Tensor | None = field(default=None, repr=False)
    similarity: float = 0.0
    read_K: torch.Tensor | None = None


@dataclass
class DyCokeCache(MemoryPruner):
    """At each decode step the attention that the new token pays the visual rows in an early layer decides which of them
    the deeper layers read. The cache keeps every row, so that one passed over now may be read at the next step; when
    the scores hardly changed since the last step, the authors let the step read everything.

    Paper: DyCoke, CVPR 2025 (arXiv 2411.15024). Official: KD-TAO/DyCoke @ dd7463498203479d0ff6f2d29c4e72928c0af244.

    layer: L; layers 0..L-1 read all rows and layer L-1 gives the scores, averaged over heads (a 28-layer model's
    number; scale_layers=False takes it as it is). keep_ratio: 1 - P; int(keep_ratio * V) scored rows are read.
    threshold: cosine of two steps' scores from which on they count as alike (0.9, fixed by the authors). on_similar: an
    alike step reads `full`, as officially, or `reuse`s the rows of the step before. spare_last: officially the last
    visual row is left out of V and always read. official: carries the last scores of one generation over to the next
    one's first step.

    The first token never depends on this stage. Memory is not saved, only reads. Promises: sorted, unique.
    Complexity: O(H N E) per step and O(H N) memory, one scalar read back; the authors compute such a row in every
    layer.
    Deviations: state is fresh for each generation unless `official`. Equal scores go to the earlier row. The row is
    float32, the authors' is in the model's dtype.
    """

    layer: int = 3
    keep_ratio: float = 0.3
    threshold: float = 0.9
    on_similar: Literal["full", "reuse"] = "full"
    spare_last: bool = True
    scale_layers: bool = True
    official: bool = False
    _state: StepState | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        require_fields(self)
        if not 0 < self.keep_ratio <= 1:
            raise ValueError(
                f"keep_ratio={self.keep_ratio} is the share that a step reads (1 - P); choose it in (0, 1]"
            )
        if self.layer < 1:
            raise ValueError(f"layer={self.layer} must be at least 1: the layer before it gives the scores")
        self.may_keep_all = self.keep_ratio == 1

    def check(self, depth: int) -> None:
        self.first_sparse(depth)

    def first_sparse(self, depth: int) -> int:
        """The first layer that reads a part of its visual rows."""
        return scaled_layer(self.layer, depth, self.scale_layers)

    def begin(self, layout: Layout) -> StepState:
        if not self.official:
            return StepState()
        if self._state is None:
            self._state = StepState()
        return self._state

    def attend(self, layer: Layer, state: StepState) -> torch.Tensor | None:
        first_sparse = self.first_sparse(layer.depth)
        if layer.index == first_sparse - 1:
            self._score(layer, state)
        return state.read_K if layer.index >= first_sparse else None

    def _score(self, layer: Layer, state: StepState) -> None:
        cached_V = layer.alive_V
        scored = max(0, len(cached_V) - self.spare_last)
        scores_V = layer.attention_rows([-1])[:, 0].mean(0)[layer.visual_slice][:scored]
        before_V, state.scores_V = state.scores_V, scores_V
        state.similarity = 0.0 if before_V is None else functional.cosine_similarity(scores_V, before_V, dim=0).item()
        if state.similarity < self.threshold:
            best_K = scores_V.argsort(descending=True, stable=True)[: int(self.keep_ratio * scored)]
            state.read_K = torch.cat([cached_V[best_K.sort().values], cached_V[scored:]])
        elif self.on_similar == "full":
            state.read_K = None

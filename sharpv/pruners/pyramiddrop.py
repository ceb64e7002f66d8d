"""PyramidDrop: visual tokens leave in several stages, the deeper the layer the more.

Shape suffixes: H query heads, N alive rows, V visual rows alive, K kept rows.
"""

from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from scipy.optimize import brentq

from sharpv.checks import require_fields
from sharpv.pruners.base import MemoryPruner, scaled_layer
from sharpv.pruners.ranking import highest, last_row_scores
from sharpv.pruners.view import Layer, Layout, Site
from sharpv.tokens import Selection


@dataclass
class PyramidDrop(MemoryPruner):
    """When a listed layer is about to run, the visual tokens still there are ranked by the attention that the prompt's
    last token pays them in this very layer, averaged over heads, and only the best go on. Each stage's share is one of
    the visual tokens that were fed.

    Paper: PyramidDrop, CVPR 2025 (arXiv 2410.17247). Official: Cooperx521/PyramidDrop @
    6444f304aee4b7edcb022839fb9e8cd07859704a (LLaVA-1.5 and LLaVA-NeXT on Llama; no video, no Qwen).

    layers: layer_list; the first layers that run on fewer rows, numbers of a 28-layer model (scale_layers=False takes
    them as they are): the quarters of the depth, 8, 16, 24 of Llama's 32. keep_ratios: image_token_ratio_list; a stage
    keeps int(share * V) of the V rows fed, possibly none. The defaults keep 46.9% of the rows on average over layers.

    Promises: sorted, unique, declared counts; states are cut, never merged; all text stays.
    Complexity: O(H N E) time beside one key projection and O(H N) memory a stage; the authors project all rows to
    queries, keys and values a second time, O(N D^2), though one query is read. No read-back.
    Deviations: rows keep their original positions, so that a stage behind the first one may rank otherwise than the
    authors' code, which numbers the rows left anew from 0 in each stage and shifts decode positions with them; that
    numbering is not offered. With fewer key-value heads than heads, where the official code fails, keys serve their
    group of heads. The prompt is never cut to tokenizer_model_max_length, which officially loses the end of a long
    prompt. Separator rows (newline) count as text. Stages that fall on one layer or beyond the depth, and shares that
    grow, are refused. Equal scores go to the earlier token. Probabilities stay float32.
    """

    layers: tuple[int, ...] = (7, 14, 21)
    keep_ratios: tuple[float, ...] = (0.5, 0.25, 0.125)
    scale_layers: bool = True

    def __post_init__(self) -> None:
        require_fields(self)
        self.layers, self.keep_ratios = tuple(self.layers), tuple(self.keep_ratios)
        if not self.layers or len(self.layers) != len(self.keep_ratios):
            raise ValueError(
                f"layers={self.layers} and keep_ratios={self.keep_ratios} must be equally many, at least 1"
            )
        if any(not 0 <= share <= 1 for share in self.keep_ratios):
            raise ValueError(f"keep_ratios={self.keep_ratios} are shares of the rows fed; choose them in [0, 1]")
        if list(self.keep_ratios) != sorted(self.keep_ratios, reverse=True):
            raise ValueError(f"keep_ratios={self.keep_ratios} must not grow: rows that are gone do not come back")
        if min(self.layers) < 1:
            raise ValueError(f"layers={self.layers} must be at least 1: layer 0 computes all rows")
        self.may_keep_all = min(self.keep_ratios) == 1

    def check(self, depth: int) -> None:
        self.stages(depth)

    def stages(self, depth: int) -> dict[int, float]:
        """Share of the rows fed with which each listed layer of a model of this depth goes on."""
        scaled = [scaled_layer(layer, depth, self.scale_layers) for layer in self.layers]
        if scaled != sorted(set(scaled)):
            raise ValueError(
                f"layers={self.layers} are layers {scaled} of {depth}: each stage needs a later layer than the one "
                "before; choose fewer stages or others"
            )
        return dict(zip(scaled, self.keep_ratios, strict=True))

    def mean_share(self, depth: int) -> float:
        shares, edges = [1.0, *self.stages(depth).values()], pairwise([0, *self.stages(depth), depth])
        return sum(share * (stop - start) for share, (start, stop) in zip(shares, edges, strict=True)) / depth

    def at_budget(self, share: float, depth: int) -> "PyramidDrop":
        """With the listed layers, and shares that fall by one factor from stage to stage, as the authors' do by 1/2."""
        steps = range(1, len(self.layers) + 1)

        def falling(factor: float) -> "PyramidDrop":
            return replace(self, keep_ratios=tuple(factor**step for step in steps))

        least = falling(0.0).mean_share(depth)
        if share <= least:
            raise ValueError(
                f"the layers before its first stage are {least:.1%} of all: no shares behind them make it {share:.1%}"
            )
        return falling(brentq(lambda factor: falling(factor).mean_share(depth) - share, 0.0, 1.0))

    def begin(self, layout: Layout) -> dict[int, torch.Tensor]:
        """Holds each stage's scores, float32 (V,), high = keep, under the number of its layer."""
        return {}

    def keep_rows(self, layer: Layer, site: Site, state: dict[int, torch.Tensor]) -> Selection | None:
        share = self.stages(layer.depth).get(layer.index)
        if share is None:
            return None
        state[layer.index] = last_row_scores(layer)
        best_K = highest(state[layer.index], int(layer.layout.visual * share))
        return Selection(layer.alive_V[best_K.sort().values], positions="original")

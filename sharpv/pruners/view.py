"""What a memory stage is shown of the prompt and of a layer, and what it may order.

Shape suffixes: N prompt rows or cached rows, V visual rows as fed to the model, Q query rows, H heads, D width.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch

from sharpv.tokens import Selection

Site = Literal["enter", "attended"]


@dataclass(frozen=True)
class Layout:
    """Where things lie in the prompt that is fed, after the visual stage.

    length: rows fed. start: rows in front of the video. visual: number V of its rows. dense_visual: visual tokens of
    the dense model. depth: decoder layers. frames, grid: of the video. fed_VD: the visual rows as fed.
    frame_V, patch_V: frame and place in the grid of each row, -1 where it is synthetic; int64 on the model's device.
    visual_V: where each visual row lies among the rows fed, ascending; they are one run from `start` on unless `is_run`
    is False. separator_S: rows that belong to the video but are no visual tokens. text_behind: rows of text behind the
    video. selection: what the visual stage returned, None if there was none. block_V, extent_B: for positions of three
    components, the run of tokens that each visual row is from, and the positions that each run takes.
    """

    length: int
    start: int
    visual: int
    dense_visual: int
    depth: int
    frames: int
    grid: tuple[int, int]
    fed_VD: torch.Tensor
    frame_V: torch.Tensor
    patch_V: torch.Tensor
    visual_V: torch.Tensor
    separator_S: torch.Tensor
    text_behind: int
    is_run: bool = True
    selection: Selection | None = None
    seed: int = 0
    block_V: torch.Tensor | None = None
    extent_B: torch.Tensor | None = None

    @property
    def stop(self) -> int:
        """First row behind the visual rows, where they are one run."""
        return self.start + self.visual


@dataclass
class Layer:
    """One decoder layer as a memory pruner sees it, during prefill or a decode step.

    index, depth: 0-based index and number of layers. step: 0 in prefill, then 1, 2, ...
    hidden_ND: prefill: the alive rows' states entering the layer (site "enter") or the residual between attention and
    MLP (site "attended"); decode: the one new row. alive_V: the visual rows still alive here (prefill) or cached here
    (decode), as ascending indices into the visual rows as fed. visual_slice: where those lie among the alive or cached
    rows; int64 indices where they are no run. attention_rows(queries, rotary=True, causal=True): softmaxed
    probabilities of this layer's own attention for the row indices asked for (negative counts from the end), over ALL
    alive rows (prefill) or cached rows and the new one (decode): float32 (H, Q, N), H query heads; in decode only the
    new row can be asked for.
    """

    index: int
    depth: int
    step: int
    layout: Layout
    hidden_ND: torch.Tensor
    alive_V: torch.Tensor
    visual_slice: slice | torch.Tensor
    attention_rows: Callable[..., torch.Tensor]

    @property
    def visual_VD(self) -> torch.Tensor:
        return self.hidden_ND[self.visual_slice]


@dataclass
class KeepCache:
    """An order to cut cached visual rows: those of `index` (into the visual rows as fed) stay, text always stays.

    reencode: rotate the keys left in front so that the positions of the rows that leave are closed; gaps that a visual
    stage with original positions left before them stay, as that stage wants them.
    in_prefill: the layer's own prefill attention does not see the dropped rows either.
    """

    index: torch.Tensor
    reencode: bool = False
    in_prefill: bool = False

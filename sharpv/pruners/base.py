"""The two stages of a pruner. A method is a dataclass of hyper-parameters that implements one of them.

Shape suffixes: N prompt rows or cached rows, V visual rows as fed to the model, Q query rows, H heads, D width.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import torch

from sharpv.tokens import Selection, VideoTokens

Site = Literal["enter", "attended"]


class VisualPruner(ABC):
    """Acts before the language model: a pure function from a video's tokens to the rows that are fed.

    may_keep_all: the method may rightly keep every token (else a run in which it always did is an error).
    tower_layers: indices of the tower layers whose queries and keys it reads; None = needs nothing of the tower.
    draws: it draws numbers of its own, from a field `seed`, so that a row may ask for repetitions.
    reads_question: it reads the text behind the video, so that its selection holds for one question only.
    A docstring's read-backs are the times that `select` waits for the device beyond once in `require_finite`. Scores
    are float32; docs/methods.md has the share of kept tokens that half-precision features change.
    """

    may_keep_all: bool = False
    draws: bool = False
    tower_layers: tuple[int, ...] | None = None
    reads_question: bool = False

    @abstractmethod
    def select(self, video: VideoTokens) -> Selection:
        """Choose the rows to feed. Raises ValueError where the video or the setting is not supported."""

    def requested_ratio(self, frames: int) -> float | None:
        """Share of a video of so many frames that the setting asks for; None where it follows from the video."""
        return getattr(self, "keep_ratio", None)

    def at_budget(self, share: float, frames: int) -> Self | None:
        """The method made to feed this share of a video of so many frames; None where the video decides how many.

        ValueError where the method cannot reach it, saying what it can.
        """
        changed: Any = self
        return replace(changed, keep_ratio=share) if hasattr(self, "keep_ratio") else None

    def encoded_frames(self, video: VideoTokens) -> torch.Tensor | None:
        """Frames that a run of this method alone would put through the vision tower; None = all of them."""
        return None


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

    reencode: rotate the keys left in front of the gap so that positions become contiguous again.
    in_prefill: the layer's own prefill attention does not see the dropped rows either.
    """

    index: torch.Tensor
    reencode: bool = False
    in_prefill: bool = False


class MemoryPruner:
    """Acts inside the language model. The dataclass holds hyper-parameters; what changes lives in the state.

    may_keep_all: as for VisualPruner. sites: where in a layer `keep_rows` is asked; also before layer 0 at "enter".
    A method that needs the attention of layer l asks for it when l is entered and keeps the scores in its state.
    """

    may_keep_all: bool = False
    sites: tuple[Site, ...] = ("enter",)

    def check(self, depth: int) -> None:
        """Raises ValueError where the setting cannot prune anything in a model of this depth."""

    def mean_share(self, depth: int) -> float:
        """Share of the visual rows fed that prefill computes, mean over the layers of a model of this depth."""
        return 1.0

    def at_budget(self, share: float, depth: int) -> Self | None:
        """The method made to have this `mean_share`; None where it takes no rows out of prefill, or the video decides.

        ValueError where the method cannot reach it, saying what it can.
        """
        return None

    def begin(self, layout: Layout) -> Any:
        """Fresh state of one generation."""
        return None

    def keep_rows(self, layer: Layer, site: Site, state: Any) -> Selection | None:
        """Prefill: the visual rows to go on with, as indices into the rows as fed; None = all alive rows go on."""
        return None

    def keep_cache(self, layer: Layer, state: Any) -> dict[int, KeepCache] | None:
        """Prefill: cuts of this layer's cached visual rows or, retroactively, of earlier layers'."""
        return None

    def attend(self, layer: Layer, state: Any) -> torch.Tensor | None:
        """Decode step: visual rows (as fed) that this layer reads; None = all that its cache holds."""
        return None


def scaled_layer(layer: int, depth: int, scale: bool = True) -> int:
    """A paper's layer number, of the 28 of Qwen2-7B, in a model of another depth.

    scale: round(layer * depth / 28), at least 1, while the first (0) stays the first; else the number as it is. Raises
    ValueError where that lies outside the depth, since the method would then prune nothing.
    """
    reference = 28 if scale else depth
    scaled = max(1, round(layer * depth / reference)) if layer else 0
    if scaled >= depth:
        raise ValueError(
            f"layer {layer} of {reference} is layer {scaled} of {depth}: nothing would be pruned; choose a smaller one"
        )
    return scaled

"""The two stages of a pruner. A method is a dataclass of hyper-parameters that implements one of them."""

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any, Self

import torch

from sharpv.pruners.view import KeepCache, Layer, Layout, Site
from sharpv.tokens import Selection, VideoTokens


class VisualPruner(ABC):
    """Acts before the language model: a pure function from a video's tokens to the rows that are fed.

    may_keep_all: the method may rightly keep every token (else a run in which it always did is an error).
    tower_layers: indices of the tower layers whose queries and keys it reads; None = needs nothing of the tower.
    draws: it draws numbers of its own, from a field `seed`, so that a row may ask for repetitions.
    reads_question: it reads the text behind the video, so that its selection holds for one question only.
    calibrates: the field, and its highest value (the lowest is 0), that calibration on unlabelled videos sets to reach
    a share; None where a share is set directly, or the video decides.
    A docstring's read-backs are the times that `select` waits for the device beyond once in `require_finite`. Scores
    are float32; docs/methods.md has the share of kept tokens that half-precision features change.
    """

    may_keep_all: bool = False
    draws: bool = False
    tower_layers: tuple[int, ...] | None = None
    reads_question: bool = False
    calibrates: tuple[str, float] | None = None

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


def require_selection(stage: VisualPruner, found: Any, video: VideoTokens) -> Selection:
    """What a stage's `select` gave for a video; ValueError naming the stage where no prompt can be made of it.

    Types and shapes of every stage; the indices, at one read-back, of stages that are not this package's, whose own are
    tested.
    """
    named = f"{type(stage).__module__}.{type(stage).__name__}.select gave"
    if not isinstance(found, Selection):
        raise ValueError(f"{named} {type(found).__name__}, not a sharpv.tokens.Selection")
    origin_K, features_KD, assign_N = found.origin_K, found.features_KD, found.assign_N
    if origin_K.dtype != torch.int64 or origin_K.ndim != 1:
        raise ValueError(
            f"{named} origin_K of {origin_K.dtype}, shape {tuple(origin_K.shape)}: it holds the int64 index of each "
            "kept token, (K,); of a mask, take mask_N.nonzero().flatten()"
        )
    rows = (len(origin_K), video.features_TPD.shape[-1])
    if features_KD is not None and features_KD.shape != rows:
        raise ValueError(f"{named} features_KD of shape {tuple(features_KD.shape)} with origin_K of {rows[0]}: {rows}")
    if assign_N is not None and assign_N.shape != (video.total,):
        raise ValueError(f"{named} assign_N of shape {tuple(assign_N.shape)} for a video of {video.total} tokens")
    if type(stage).__module__.partition(".")[0] != "sharpv" and len(origin_K):
        again = (origin_K.sort().values.diff() == 0).any()
        low, high, repeated = torch.stack([origin_K.min(), origin_K.max(), again.long()]).tolist()
        if not (0 if assign_N is None else -1) <= low <= high < video.total:
            raise ValueError(
                f"{named} origin_K from {low} to {high} for a video of {video.total} tokens: indices are 0 to "
                f"{video.total - 1}, and -1 for a row made of several with assign_N alone"
            )
        if repeated and features_KD is None:
            raise ValueError(
                f"{named} a token twice in origin_K: rows that are none of the video's own come in features_KD"
            )
    return found


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

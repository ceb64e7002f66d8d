"""The pruners to profile, and what fixes their counts where random features would not move as real ones do.

Shape suffixes: K kept rows.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from sharpv.pair import Pruner
from sharpv.pruners.base import MemoryPruner, VisualPruner
from sharpv.pruners.controls import DownsampledGrid, FewerFrames, Random, UniformStride
from sharpv.pruners.divprune import DivPrune
from sharpv.pruners.dycoke import DyCokeMerge
from sharpv.pruners.dycoke_cache import DyCokeCache
from sharpv.pruners.evs import EVS
from sharpv.pruners.fastv import FastV
from sharpv.pruners.fastvid import FastVID
from sharpv.pruners.flashvid import FlashVID
from sharpv.pruners.flashvid_inner import FlashVIDInner
from sharpv.pruners.framefusion import FrameFusion
from sharpv.pruners.holitom import HoliTom
from sharpv.pruners.holitom_inner import HoliTomInner
from sharpv.pruners.prumerge import PruMerge
from sharpv.pruners.prumerge_plus import PruMergePlus
from sharpv.pruners.prunevid import PruneVidMerge
from sharpv.pruners.prunevid_attention import PruneVidAttention
from sharpv.pruners.pyramiddrop import PyramidDrop
from sharpv.pruners.scissor import Scissor
from sharpv.pruners.sharpv import MemorySharpV, VisualSharpV
from sharpv.pruners.sharpv_budget import SharpVBudget
from sharpv.pruners.vcast import VCast
from sharpv.pruners.vidcom2 import VidCom2
from sharpv.pruners.view import KeepCache, Layer, Layout
from sharpv.pruners.visionzip import VisionZip
from sharpv.pruners.vtw import VTW
from sharpv.tokens import Selection, VideoTokens

Pair = tuple[VisualPruner | None, MemoryPruner | None]

PRUNERS: dict[str, Callable[[float], Pair]] = {
    "dense": lambda ratio: (None, None),
    "sharpv": lambda ratio: (VisualSharpV(), MemorySharpV()),
    "sharpv_visual": lambda ratio: (VisualSharpV(), None),
    "sharpv_budget": lambda ratio: (SharpVBudget(keep_ratio=ratio), None),
    "sharpv_memory": lambda ratio: (None, MemorySharpV()),
    "fastv": lambda ratio: (None, FastV(keep_ratio=ratio)),
    "vtw": lambda ratio: (None, VTW()),
    "pyramiddrop": lambda ratio: (None, PyramidDrop()),
    "framefusion": lambda ratio: (None, FrameFusion(keep_ratio=ratio)),
    "prunevid": lambda ratio: (PruneVidMerge(), PruneVidAttention()),
    "dycoke": lambda ratio: (DyCokeMerge(), DyCokeCache()),
    "prumerge": lambda ratio: (PruMerge(), None),
    "prumerge_plus": lambda ratio: (PruMergePlus(), None),
    "divprune": lambda ratio: (DivPrune(keep_ratio=ratio), None),
    "vidcom2": lambda ratio: (VidCom2(keep_ratio=ratio), None),
    "visionzip": lambda ratio: (VisionZip(keep_ratio=ratio), None),
    "holitom": lambda ratio: (HoliTom(keep_ratio=ratio), HoliTomInner()),
    "flashvid": lambda ratio: (FlashVID(keep_ratio=ratio), FlashVIDInner()),
    "fastvid": lambda ratio: (FastVID(keep_ratio=ratio), None),
    "scissor": lambda ratio: (Scissor(), None),
    "evs": lambda ratio: (EVS(keep_ratio=ratio), None),
    "vcast": lambda ratio: (VCast(keep_ratio=ratio), None),
    "random": lambda ratio: (Random(keep_ratio=ratio), None),
    "uniform": lambda ratio: (UniformStride(keep_ratio=ratio), None),
    "downsample": lambda ratio: (DownsampledGrid(keep_ratio=ratio), None),
    "fewer_frames": lambda ratio: (FewerFrames(keep_ratio=ratio), None),
}
"""Name to pruner at a kept share; methods without such a setting stand with their defaults."""

STEPWISE = (FewerFrames, DownsampledGrid)
"""Controls whose counts come in steps of frames or grids; forcing one would be another method."""


@dataclass
class ForcedVisual(VisualPruner):
    """Runs the inner method's whole selection, then feeds evenly spaced rows instead: keep_ratio of them, exactly."""

    inner: VisualPruner
    keep_ratio: float

    def __post_init__(self) -> None:
        self.tower_layers = self.inner.tower_layers
        self.may_keep_all = self.keep_ratio == 1

    def select(self, video: VideoTokens) -> Selection:
        own = self.inner.select(video)
        count = round(self.keep_ratio * video.total)
        place_K = torch.arange(count, dtype=torch.float64, device=video.device) + 0.5
        return Selection((place_K * video.total / count).long(), positions=own.positions, separator=own.separator)


@dataclass
class ForcedMemorySharpV(MemoryPruner):
    """Computes Memory SharpV's decision in every layer, scalar read back included, then drops the visual KV of the
    deepest layers instead, as many as leave keep_ratio of the layers whole."""

    inner: MemorySharpV
    keep_ratio: float

    may_keep_all = True

    def begin(self, layout: Layout) -> Any:
        return self.inner.begin(layout)

    def keep_cache(self, layer: Layer, state: Any) -> dict[int, KeepCache] | None:
        self.inner.keep_cache(layer, state)
        if layer.index < round(self.keep_ratio * layer.depth) or not len(layer.alive_V):
            return None
        nothing = layer.alive_V[:0]
        return {layer.index: KeepCache(nothing, self.inner.reencode, self.inner.acts == "in_prefill")}


def pair_of(name: str, force_ratio: float | None, force_memory: float | None, own_ratio: float = 0.3) -> Pair:
    """The pruner of a name, its visual rows and Memory SharpV's layers forced to the shares given (None = its own).

    Methods with a kept share of their own get `force_ratio` too, else `own_ratio`. Other names are those of
    `Pruner.of`, with the settings of their configuration. ValueError for an unknown one.
    """
    if name in PRUNERS:
        visual, memory = PRUNERS[name](force_ratio or own_ratio)
    else:
        pruner = Pruner.of(name)
        visual, memory = pruner.visual, pruner.memory
    if force_ratio is not None and visual is not None and not isinstance(visual, STEPWISE):
        visual = ForcedVisual(visual, force_ratio)
    if force_memory is not None and isinstance(memory, MemorySharpV):
        memory = ForcedMemorySharpV(memory, force_memory)
    return visual, memory

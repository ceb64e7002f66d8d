"""Every method with settings that prune and one that keeps everything, for what all methods must pass.

Budgets are for the tiny random model of conftest.py: a video of 8 x 36 tokens, 4 layers.
"""

from dataclasses import dataclass
from typing import Literal

from sharpv.pair import Pruner
from sharpv.pruners.base import MemoryPruner, VisualPruner
from sharpv.pruners.bipartite import BipartiteMerging
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
from sharpv.pruners.query_relevance import QueryRelevance
from sharpv.pruners.scissor import Scissor
from sharpv.pruners.sharpv import MemorySharpV, VisualSharpV
from sharpv.pruners.sharpv_budget import SharpVBudget
from sharpv.pruners.vcast import VCast
from sharpv.pruners.vidcom2 import VidCom2
from sharpv.pruners.visionzip import VisionZip
from sharpv.pruners.vtw import VTW

FRAMES, TOKENS, DEPTH = 8, 36, 4
TOTAL = FRAMES * TOKENS


@dataclass(frozen=True)
class Method:
    """stage: a setting that prunes. whole: one that keeps everything, None where there is none or another line has it.
    budget: the declared share of tokens fed (visual) or rows read (memory), None where it follows from the video;
    tolerance: how far it may lie off. cls_decides: a tower with a CLS token sets the share itself. ascending: whether
    rows are promised in order. quadratic: what the method's definition is quadratic in: nothing, the tokens or raw
    patches of one frame, or the tokens of the whole video."""

    stage: VisualPruner | MemoryPruner
    whole: VisualPruner | MemoryPruner | None = None
    budget: float | None = None
    tolerance: float = 1e-9
    ascending: bool = True
    cls_decides: bool = False
    quadratic: Literal["", "frame", "video"] = ""

    def __repr__(self) -> str:
        return repr(self.stage)


VISUAL = [
    Method(VisualSharpV(), VisualSharpV("manual", threshold=-1)),
    Method(SharpVBudget(), SharpVBudget(1), 0.25),
    Method(PruMerge(), PruMerge(1), 20 / TOKENS, ascending=False, cls_decides=True, quadratic="frame"),
    Method(PruMergePlus(), PruMergePlus(1), 20 / TOKENS, ascending=False, cls_decides=True, quadratic="frame"),
    Method(PruMergePlus(adaptive=True), ascending=False, quadratic="frame"),
    Method(PruMergePlus(adaptive=True, fence=3, official=True), ascending=False, quadratic="frame"),
    Method(DyCokeMerge(), DyCokeMerge(1), (3 * TOKENS + 5 * 18) / TOTAL, ascending=False),
    Method(DyCokeMerge(0.3, "raster", True, "keep"), budget=(2 * TOKENS + 6 * 10) / TOTAL),
    Method(DivPrune(0.2), DivPrune(1), 58 / TOTAL, quadratic="video"),
    Method(PruneVidMerge(), PruneVidMerge(1, 1), ascending=False, quadratic="frame"),
    Method(VidCom2(), VidCom2(1), 0.25, tolerance=FRAMES / 2 / TOTAL),
    Method(EVS(), EVS(1), 0.25),
    Method(VCast(), VCast(1), 0.25),
    Method(VCast(official=True), VCast(1, official=True), 0.25),
    Method(VisionZip(), VisionZip(1), 4 / TOKENS, ascending=False, quadratic="frame"),
    Method(Scissor(tau=0.97), Scissor(tau=1), ascending=False, quadratic="video"),
    Method(Scissor(0.97, 0.4, official=True), ascending=False, quadratic="video"),
    Method(FastVID(), FastVID(1), 3 / TOKENS, tolerance=FRAMES / TOTAL, quadratic="frame"),
    Method(FastVID(0.3, context_share=0.9), budget=10 / TOKENS, tolerance=0.15, quadratic="frame"),
    Method(HoliTom(), HoliTom(1, static_threshold=1), ascending=False, quadratic="frame"),
    Method(FlashVID(), FlashVID(1), 12 / TOKENS, tolerance=FRAMES / TOTAL, quadratic="frame"),
    Method(FlashVID(segments=1), budget=12 / TOKENS, tolerance=FRAMES / TOTAL, quadratic="frame"),
    Method(BipartiteMerging(), BipartiteMerging(1), 0.25, quadratic="video"),
    Method(QueryRelevance(), QueryRelevance(1), 0.25),
]

MEMORY = [
    Method(MemorySharpV(threshold=0.9), MemorySharpV(threshold=-2)),
    Method(FastV(), FastV(keep_ratio=1), (TOTAL + 3 * 86) / (DEPTH * TOTAL)),
    Method(VTW(), budget=0.5),
    Method(PruneVidAttention(), PruneVidAttention(keep_ratio=1), 14 / TOKENS),
    Method(DyCokeCache(threshold=2), DyCokeCache(keep_ratio=1), (TOTAL + 3 * 87) / (DEPTH * TOTAL)),
    Method(FrameFusion(), FrameFusion(keep_ratio=1), 0.3, tolerance=1 / TOTAL),
    Method(PyramidDrop(), PyramidDrop(keep_ratios=(1, 1, 1)), (1 + 1 / 2 + 1 / 4 + 1 / 8) / DEPTH),
    Method(HoliTomInner(), HoliTomInner(keep_ratio=1), (3 * TOTAL + 144) / (DEPTH * TOTAL)),
    Method(FlashVIDInner(), FlashVIDInner(keep_ratio=1), (3 * TOTAL + 87) / (DEPTH * TOTAL)),
]


def pruner_of(stage: VisualPruner | MemoryPruner) -> Pruner:
    return Pruner(visual=stage) if isinstance(stage, VisualPruner) else Pruner(memory=stage)

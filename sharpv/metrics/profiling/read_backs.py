"""How often each visual stage may make the host wait for the device, as the methods' docstrings say."""

from sharpv.pruners.base import VisualPruner
from sharpv.pruners.bipartite import BipartiteMerging
from sharpv.pruners.divprune import DivPrune
from sharpv.pruners.dycoke import DyCokeMerge
from sharpv.pruners.evs import EVS
from sharpv.pruners.fastvid import FastVID
from sharpv.pruners.flashvid import FlashVID
from sharpv.pruners.holitom import HoliTom
from sharpv.pruners.prumerge import PruMerge
from sharpv.pruners.prumerge_plus import PruMergePlus
from sharpv.pruners.prunevid import PruneVidMerge
from sharpv.pruners.query_relevance import QueryRelevance
from sharpv.pruners.scissor import Scissor
from sharpv.pruners.sharpv import VisualSharpV
from sharpv.pruners.sharpv_budget import SharpVBudget
from sharpv.pruners.vcast import VCast
from sharpv.pruners.vidcom2 import VidCom2
from sharpv.pruners.visionzip import VisionZip

READ_BACKS: list[tuple[VisualPruner, int]] = [
    (VisualSharpV(), 1),
    (VisualSharpV("manual"), 1),
    (SharpVBudget(), 2),
    (EVS(), 0),
    (VCast(), 1),
    (VidCom2(), 1),
    (DyCokeMerge(), 0),
    (DivPrune(), 0),
    (PruneVidMerge(), 2),
    (PruMerge(), 1),
    (PruMergePlus(0.55), 1),
    (VisionZip(), 0),
    (FastVID(), 1),
    (HoliTom(), 1),
    (FlashVID(), 2),
    (FlashVID(segments=1), 2),
    (BipartiteMerging(), 0),
    (QueryRelevance(), 0),
    # Two steps, each a single block of cosines here.
    (Scissor(), 4),
]
"""Beyond the one of the check for finite features."""

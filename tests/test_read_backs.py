"""How often a visual stage makes the host wait for the device, counted on a CPU with tensors that stand for a GPU's.

Operations whose result or size follows from values (an item, a mask as an index, nonzero) read back on a GPU.
"""

from dataclasses import replace

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves
from videos import drifting, video_of

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

TO_HOST = {"cpu", "tolist", "item", "numpy", "__bool__", "__int__", "__float__", "__index__"}
VALUES_SET_THE_SIZE = {"nonzero", "bincount", "masked_select", "unique", "equal", "repeat_interleave"}


class OnDevice(torch.Tensor):
    """A tensor that stands for one on a GPU, as does all that is computed from it."""


class ReadBacks(TorchFunctionMode):
    """Names of the functions that read back a tensor on the device; tensors made with a device lie there."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs, name = kwargs or {}, func.__name__
        result = func(*args, **kwargs)
        if kwargs.get("device") is not None or (name == "to" and isinstance(args[1], torch.device)):
            return result.as_subclass(OnDevice)
        if not any(isinstance(leaf, OnDevice) for leaf in tree_leaves((args, kwargs))):
            return result
        masked = name == "__getitem__" and any(
            torch.is_tensor(index) and index.dtype == torch.bool for index in tree_leaves(args[1])
        )
        checked = name == "segment_reduce" and not kwargs.get("unsafe")
        if name in TO_HOST | VALUES_SET_THE_SIZE or masked or checked:
            self.names.append(name)
        return result.as_subclass(torch.Tensor) if name in TO_HOST and torch.is_tensor(result) else result


def on_device(video):
    tower = video.tower
    parts = {name: {-1: getattr(tower, name)[-1].as_subclass(OnDevice)} for name in ("queries", "keys")}
    tower = replace(tower, **parts, states_TRX=tower.states_TRX.as_subclass(OnDevice))
    question_QD = video.question_QD.as_subclass(OnDevice)
    return replace(video, features_TPD=video.features_TPD.as_subclass(OnDevice), tower=tower, question_QD=question_QD)


# Beyond the one of `require_finite`, as the docstrings say.
READ_BACKS = [
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


@pytest.mark.parametrize(("method", "expected"), READ_BACKS, ids=repr)
def test_a_visual_stage_reads_back_as_often_as_it_says(method, expected):
    video = video_of(drifting(12))
    video_there = on_device(video)
    with ReadBacks() as read_backs:
        selection = method.select(video_there)
    assert read_backs.names[0] == "__bool__", "the check for finite features"
    assert len(read_backs.names) == 1 + expected, read_backs.names
    assert isinstance(selection.origin_K, OnDevice)
    assert torch.equal(selection.origin_K.as_subclass(torch.Tensor), method.select(video).origin_K)

"""How often a visual stage makes the host wait for the device, counted on a CPU with tensors that stand for a GPU's.

Operations whose result or size follows from values (an item, a mask as an index, nonzero) read back on a GPU.
"""

from dataclasses import replace

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves
from videos import drifting, video_of

from sharpv.metrics.profiling.read_backs import READ_BACKS

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

"""A model that is wrapped, or the inside of one, is refused with the way to the model that can be pruned."""

import pytest
import torch
from torch import nn

from sharpv import SharpV


class PeftWrapper(nn.Module):
    """As peft.PeftModel shows itself."""

    def __init__(self, model):
        super().__init__()
        self.base, self.config = model, model.config

    def get_base_model(self):
        return self.base


@pytest.mark.parametrize(
    ("wrap", "words"),
    [
        (torch.compile, "OptimizedModule is torch.compile's wrapper: .*model._orig_mod.*model.compile()"),
        (PeftWrapper, "a PEFT wrapper: .*model.get_base_model()"),
        (nn.DataParallel, "DataParallel is a wrapper for several devices: .*model.module"),
        (lambda model: model.model, "LlavaOnevisionModel is the inside of a model: give the whole"),
    ],
    ids=["compiled", "peft", "parallel", "inside"],
)
def test_the_way_to_the_model_is_told(model, wrap, words):
    with pytest.raises(ValueError, match=words), SharpV()(wrap(model)):
        pass


def test_the_model_inside_a_wrapper_is_pruned(model, inputs):
    with SharpV()(torch.compile(model)._orig_mod) as report:
        model.generate(**inputs, max_new_tokens=1)
    assert report.vr < 1

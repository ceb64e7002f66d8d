"""A visual and a memory stage as one pruner around an ordinary transformers model."""

from contextlib import AbstractContextManager
from dataclasses import dataclass

from torch import nn

from sharpv.models import adapter_for
from sharpv.pruners.base import MemoryPruner, VisualPruner
from sharpv.runtime.attach import attach
from sharpv.runtime.session import Report


@dataclass
class Pruner:
    """Any visual stage with any memory stage; None leaves a stage out.

    with Pruner(visual=VisualSharpV(), memory=MemorySharpV())(model) as report:
        model.generate(**inputs)
    """

    visual: VisualPruner | None = None
    memory: MemoryPruner | None = None

    def __call__(self, model: nn.Module, seed: int = 0) -> AbstractContextManager[Report]:
        """Attach to a model until the context ends; `seed` is the sample's, for methods that draw numbers."""
        return attach(adapter_for(model), self.visual, self.memory, seed)

"""A visual and a memory stage as one pruner around an ordinary transformers model."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, get_args

from torch import nn

from sharpv.configuration import by_name
from sharpv.models import adapter_for
from sharpv.pruners.base import MemoryPruner, VisualPruner
from sharpv.runtime.attach import attach
from sharpv.runtime.report import Report
from sharpv.runtime.turn import Images


@dataclass
class Pruner:
    """Any visual stage with any memory stage; None leaves a stage out.

        with Pruner(visual=VisualSharpV(), memory=MemorySharpV())(model) as report:
            model.generate(**inputs)
        print(report)

    images: left alone, or pruned by the visual stage as videos of one frame. ValueError for what is no stage, or the
    other one.
    """

    visual: VisualPruner | None = None
    memory: MemoryPruner | None = None
    images: Images = "keep"

    def __post_init__(self) -> None:
        if self.images not in get_args(Images):
            raise ValueError(f"images={self.images!r} is not one of {', '.join(get_args(Images))}")
        kinds: dict[str, type] = {"visual": VisualPruner, "memory": MemoryPruner}
        for place, kind in kinds.items():
            stage = getattr(self, place)
            if stage is None or isinstance(stage, kind):
                continue
            other = next((name for name, of in kinds.items() if isinstance(stage, of)), None)
            raise ValueError(
                f"{place}={stage!r} is no {place} stage: "
                + (f"it is a {other} one, pass {other}=" if other else "a method by its name is Pruner.of('fastv')")
            )

    @classmethod
    def of(cls, name: str, *, model: str | None = None, **settings: Any) -> "Pruner":
        """A method by its name in configs/pruner, with settings in place of its own: of("fastv", keep_ratio=0.25).

        A field that both stages have is given to one by visual_options={...} or memory_options={...}. model: whose
        calibrated thresholds to take, a name of configs/model; without one the paper's stay. ValueError for an unknown
        name or field, with the nearest, and for a value that the method refuses.
        """
        return cls(**by_name.stages(name, settings, model))

    @staticmethod
    def names() -> dict[str, str]:
        """What `of` takes, each with a line on what it does; of names that differ by settings only, the first."""
        return by_name.lines()

    @contextmanager
    def __call__(self, model: nn.Module, seed: int = 0) -> Iterator[Report]:
        """Attach to a model until the context ends; `seed` is the sample's, for methods that draw numbers."""
        adapter = adapter_for(model)
        with attach(adapter, self.visual, self.memory, seed, self.images) as report:
            report.memory = self.memory
            handles = report.time(model, adapter.language_model)
            try:
                yield report
            finally:
                for handle in handles:
                    handle.remove()

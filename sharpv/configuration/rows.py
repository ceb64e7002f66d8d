"""Rows of a table: a pruner with its name, its kind and its repetition."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from sharpv.pruners.base import MemoryPruner, VisualPruner

STAGES = ("visual", "memory")
KINDS = ("dense", "method", "control", "budget-matched")


@dataclass(frozen=True)
class Row:
    """One row of a table at one repetition. `settings` is the resolved configuration, for records and hashes."""

    name: str
    method: str
    kind: Literal["dense", "method", "control", "budget-matched"]
    seed: int
    visual: "VisualPruner | None"
    memory: "MemoryPruner | None"
    settings: dict[str, Any]
    budget: float | None = None
    """The share of the visual tokens that the row was set to, mean over the layers; None where it was not."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"row {self.name!r} has kind {self.kind!r}; there are: {', '.join(KINDS)}")

    @property
    def hash(self) -> str:
        """Of everything that can change an answer: classes, hyper-parameters and repetition; not of its name."""
        relevant = {"visual": self.settings["visual"], "memory": self.settings["memory"], "seed": self.seed}
        return hashlib.sha256(json.dumps(relevant, sort_keys=True).encode()).hexdigest()

    @property
    def stages(self) -> dict[str, str | None]:
        """Both stages with the values of all their fields, as text."""
        return {name: repr(stage) if stage else None for name, stage in vars(self).items() if name in STAGES}

    @property
    def may_keep_all(self) -> bool:
        """Whether no stage is sure to prune."""
        stages = [stage for stage in (self.visual, self.memory) if stage is not None]
        return self.kind == "dense" or (bool(stages) and all(stage.may_keep_all for stage in stages))

    def vr_requested(self, frames: int) -> float | None:
        """Share of a video of so many frames that the visual stage asks for, None where it follows from the video."""
        return None if self.visual is None else self.visual.requested_ratio(frames)


def repetitions(row: Row, seeds: list[int]) -> list[Row]:
    """The row once a seed; a seed reaches the visual stage where that draws numbers of its own."""
    draws = row.visual is not None and row.visual.draws
    if seeds != [0] and not draws:
        raise ValueError(
            f"row {row.name!r} asks for seeds {seeds}, but its visual stage draws no numbers: use seeds: [0]"
        )
    if not draws:
        return [row]
    visual: Any = row.visual
    return [dataclasses.replace(row, seed=seed, visual=dataclasses.replace(visual, seed=seed)) for seed in seeds]

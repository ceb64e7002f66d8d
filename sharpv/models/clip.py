"""A video as a model's preprocessor hands it over, where its prompt depends on more than the pixels.

Shape suffixes: T frames (Qwen: temporal patches), X the values of one frame.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch


@dataclass(frozen=True)
class Clip:
    """The tower's input, frame by frame (T, ...); the time of each frame in seconds and the whole video's length; for
    models whose videos differ in size, the grid of raw patches (rows, columns) and the seconds from frame to frame."""

    values_TX: torch.Tensor
    seconds_T: tuple[float, ...]
    duration: float = 0.0
    grid: tuple[int, int] | None = None
    seconds_per_frame: float = 1.0

    def __len__(self) -> int:
        return len(self.values_TX)

    def __getitem__(self, index: Any) -> "Clip":
        chosen_T = torch.arange(len(self))[index.cpu() if isinstance(index, torch.Tensor) else index].tolist()
        return replace(self, values_TX=self.values_TX[index], seconds_T=tuple(self.seconds_T[t] for t in chosen_T))

    def to(self, place: torch.device | torch.dtype) -> "Clip":
        return replace(self, values_TX=self.values_TX.to(place))

    def clone(self) -> "Clip":
        return replace(self, values_TX=self.values_TX.clone())

    def share_memory_(self) -> "Clip":
        self.values_TX.share_memory_()
        return self

    @property
    def nbytes(self) -> int:
        return self.values_TX.nbytes

    @property
    def grid_thw(self) -> torch.Tensor:
        """Frames, rows and columns of raw patches (1, 3), as transformers' Qwen models take them."""
        assert self.grid is not None
        return torch.tensor([[len(self), *self.grid]], device=self.values_TX.device)

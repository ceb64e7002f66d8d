"""Which frames of a video a model takes.

Shape suffixes: T frames.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np


class Sampling(Protocol):
    """Which frames a model takes; `count` of them, read by `decoder`."""

    @property
    def count(self) -> int: ...

    @property
    def decoder(self) -> str: ...

    def indices(self, total: int, fps: float) -> np.ndarray:
        """Places (int64, ascending, may repeat) among `total` frames at `fps`; ValueError for an empty video."""
        ...


@dataclass(frozen=True)
class Evenly:
    """From the first to the last frame, truncated as numpy's integer linspace: lmms-eval's LLaVA-OneVision."""

    count: int
    decoder: str = "pyav"

    def indices(self, total: int, fps: float = 0.0) -> np.ndarray:
        if total < 1:
            raise ValueError("the video holds no frame")
        return np.linspace(0, total - 1, self.count, dtype=np.int64)


@dataclass(frozen=True)
class Segments:
    """The middle of equal segments: PLLaVA (6f49fd2, tasks/eval/eval_utils.py). `bound`: seconds (start, end)."""

    count: int
    decoder: str = "pyav"
    bound: tuple[float, float] | None = None

    def indices(self, total: int, fps: float) -> np.ndarray:
        if total < 1:
            raise ValueError("the video holds no frame")
        start, end = self.bound or (-1e5, 1e5)
        first, last = max(0, round(start * fps)), min(round(end * fps), total - 1)
        length = (last - first) / self.count
        return np.array([int(first + length / 2 + round(length * i)) for i in range(self.count)])


@dataclass(frozen=True)
class Listed:
    """These frames, as a stored row names them; ValueError where the video has fewer."""

    places: tuple[int, ...]
    decoder: str = "pyav"

    @property
    def count(self) -> int:
        return len(self.places)

    def indices(self, total: int, fps: float = 0.0) -> np.ndarray:
        if not self.places or total <= max(self.places):
            raise ValueError(f"frames {list(self.places)} were taken, but the video holds {total}: it is another one")
        return np.array(self.places, dtype=np.int64)

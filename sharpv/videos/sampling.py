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
class Middles:
    """The middle of equal parts of the whole: transformers' InternVLVideoProcessor, as lmms-eval 0.7.3 calls it.

    Deviation: of a video with fewer frames than `count` all are taken; the processor refuses it.
    """

    count: int
    decoder: str = "pyav"

    def indices(self, total: int, fps: float = 0.0) -> np.ndarray:
        if total < 1:
            raise ValueError("the video holds no frame")
        import torch

        part = total / min(self.count, total)
        return torch.arange(part / 2, total, part).int().numpy().astype(np.int64)


@dataclass(frozen=True)
class PerSecond:
    """A frame a second, and where those are more than `count`, or with `always`, `count` of them evenly: lmms-eval's
    LLaVA-Video (0.7.3, models/simple/llava_vid.py, `always` is its force_sample)."""

    count: int
    decoder: str = "pyav"
    always: bool = False

    def indices(self, total: int, fps: float) -> np.ndarray:
        if total < 1:
            raise ValueError("the video holds no frame")
        if round(fps) < 1:
            raise ValueError(f"{fps:.3g} frames a second are too few to take one a second")
        every = np.arange(0, total, round(fps), dtype=np.int64)
        return np.linspace(0, total - 1, self.count, dtype=np.int64) if self._evenly(len(every)) else every

    def seconds(self, total: int, fps: float) -> np.ndarray:
        """When those frames are shown, as the official code counts: by whole frames a second, or by the real rate."""
        places = self.indices(total, fps)
        return places / (fps if self._evenly(len(range(0, total, round(fps)))) else round(fps))

    def _evenly(self, every: int) -> bool:
        return self.always or every > self.count


@dataclass(frozen=True)
class EvenPairs:
    """An even number of frames from the first to the last, rounded to the nearest: qwen_vl_utils 0.0.14.

    count: of frames, fewer where the video is shorter; with `fps`, so many a second, at least LEAST, at most `count`.
    twice: first LEAST to MOST frames at 2 a second, of which `count` are taken, as lmms-eval 0.7.3's simple wrapper of
    Qwen2.5-VL does. Deviation: of a video with an odd number of frames below `count` one is left out; there the
    official code rounds up to more frames than there are, and fails.
    """

    count: int
    decoder: str = "pyav"
    fps: float | None = None
    twice: bool = False

    LEAST, MOST = 4, 768

    def indices(self, total: int, fps: float) -> np.ndarray:
        if total < 1:
            raise ValueError("the video holds no frame")
        if self.twice:
            read = self._spread(total, self._at_rate(2.0, min(self.MOST, total), total, fps))
            chosen = np.unique(np.linspace(0, len(read) - 1, self.count, dtype=int))
            return read[np.unique(np.append(chosen, len(read) - 1))]
        if self.fps is not None:
            return self._spread(total, self._at_rate(self.fps, self.count, total, fps))
        asked = 2 * round(min(self.count, total) / 2)
        return self._spread(total, asked if asked <= total else asked - 2)

    def _at_rate(self, rate: float, most: int, total: int, fps: float) -> int:
        if not fps > 0:
            raise ValueError("the video does not say how many frames a second it has")
        wanted = min(max(total / fps * rate, self.LEAST), most // 2 * 2, total)
        return int(wanted // 2 * 2)

    def _spread(self, total: int, count: int) -> np.ndarray:
        """As torch.linspace(...).round() in float32; a single frame is taken twice."""
        import torch

        return torch.linspace(0, total - 1, max(count, 2)).round().long().numpy()


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

"""What reading a video gives.

Shape suffixes: T frames, H height, W width, C channels.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Sampled:
    """Frames as uint8 RGB (T, H, W, C), upright; their places among the video's frames; how many frames and
    places of the whole file the decoder had to make up or leave out because it is damaged, None where it does not
    tell. total, fps: frames of the whole video, and how many a second."""

    frames_THWC: np.ndarray
    places: list[int]
    decode_errors: int | None = 0
    total: int = 0
    fps: float = 0.0

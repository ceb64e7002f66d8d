"""What reading a video gives.

Shape suffixes: T frames, H height, W width, C channels.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Sampled:
    """Frames as uint8 RGB (T, H, W, C), upright; their places among the video's frames; how many frames and
    places of the whole file the decoder had to make up or leave out because it is damaged, None where it does not
    tell; of a file read by seeking, of the parts that were decoded. total, fps: frames of the whole video, and how many
    a second. way: how the frames were reached, "seek", or "start: " and why everything was decoded; empty where the
    decoder does not tell."""

    frames_THWC: np.ndarray
    places: list[int]
    decode_errors: int | None = 0
    total: int = 0
    fps: float = 0.0
    way: str = ""

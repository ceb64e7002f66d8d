"""Frames of a video: one way to read files and folders of pictures, whatever the decoder.

Shape suffixes: T frames, H height, W width, C channels.
"""

from pathlib import Path

import numpy as np

from sharpv.videos.container import by_pyav, by_pyav_from_start
from sharpv.videos.other_decoders import by_decord, by_torchcodec
from sharpv.videos.pictures import from_folder
from sharpv.videos.sampled import Sampled
from sharpv.videos.sampling import Evenly, EvenPairs, Listed, Middles, PerSecond, Sampling, Segments

__all__ = [
    "DECODERS",
    "EvenPairs",
    "Evenly",
    "Listed",
    "Middles",
    "PerSecond",
    "Sampled",
    "Sampling",
    "Segments",
    "decode_frames",
    "read_video",
]

READERS = {"pyav": by_pyav, "pyav_from_start": by_pyav_from_start, "decord": by_decord, "torchcodec": by_torchcodec}
DECODERS = tuple(READERS)


def read_video(path: Path, sampling: Sampling | int) -> Sampled:
    """Sampled frames, turned upright, with their places; a whole number samples so many evenly.

    The container's frame count is not trusted: what was decoded counts. ValueError with the reason for what cannot be
    read, and for a decoder that is not installed.
    """
    rule: Sampling = Evenly(sampling) if isinstance(sampling, int) else sampling
    if not path.exists():
        raise ValueError(f"video {path} does not exist")
    if path.is_dir():
        return from_folder(path, rule)
    if not path.is_file():
        raise ValueError(f"video {path} is neither a file nor a folder: a pipe or device cannot be read twice")
    if rule.decoder not in READERS:
        raise ValueError(f"decoder {rule.decoder!r} is none of {', '.join(DECODERS)}")
    try:
        return READERS[rule.decoder](path, rule)
    except ImportError as error:
        raise ValueError(f"decoder {rule.decoder!r} is not installed ({error}); use decoder=pyav") from error


def decode_frames(path: Path, sampling: Sampling | int) -> np.ndarray:
    """The frames alone of `read_video`, uint8 RGB (T, H, W, C)."""
    return read_video(path, sampling).frames_THWC

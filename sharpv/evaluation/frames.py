"""Frames of a video file by PyAV, at the places where lmms-eval's LLaVA-OneVision takes them."""

from pathlib import Path

import av
import numpy as np


def frame_indices(total: int, count: int) -> np.ndarray:
    """`count` indices from first to last frame, truncated as numpy's integer linspace; repeats in short videos."""
    if total < 1:
        raise ValueError("the video holds no frame")
    return np.arange(count) * (total - 1) // max(count - 1, 1)


def decode_frames(path: Path, count: int) -> np.ndarray:
    """Sampled frames as uint8 RGB (count, H, W, 3). ValueError with the reason for a file that cannot be read.

    The container's frame count is not trusted: frames are counted by decoding.
    """
    if not path.exists():
        raise ValueError(f"video {path} does not exist")
    try:
        with av.open(str(path)) as container:
            container.streams.video[0].thread_type = "AUTO"
            total = sum(1 for _ in container.decode(video=0))
        wanted = frame_indices(total, count)
        needed = set(wanted.tolist())
        with av.open(str(path)) as container:
            kept = {
                index: frame.to_ndarray(format="rgb24")
                for index, frame in enumerate(container.decode(video=0))
                if index in needed
            }
    except (av.error.FFmpegError, IndexError) as error:
        raise ValueError(f"video {path} cannot be read: {error}") from error
    return np.stack([kept[index] for index in wanted.tolist()])

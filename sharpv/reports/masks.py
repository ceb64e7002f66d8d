"""Which patches a stored answer kept."""

import base64
from collections.abc import Sequence

import numpy as np


def kept_mask(kept_bits: str, frames: int, grid: Sequence[int]) -> np.ndarray:
    """A sample's `kept_bits` as bool (frames, h, w): True where a patch is kept, or merged into a row that is.

    ValueError where the bits are fewer than the patches.
    """
    bits_N = np.unpackbits(np.frombuffer(base64.b64decode(kept_bits), dtype=np.uint8))
    total = frames * grid[0] * grid[1]
    if len(bits_N) < total:
        raise ValueError(f"{len(bits_N)} stored bits for {frames} frames of {list(grid)}: the line is not whole")
    return bits_N[:total].reshape(frames, *grid).astype(bool)

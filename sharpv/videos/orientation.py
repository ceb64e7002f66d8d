"""How a stored frame is turned to be upright: the display matrix of its file, as players and ffmpeg read it.

Shape suffixes: H height, W width, C channels.
"""

from dataclasses import dataclass
from math import hypot
from typing import Any

import av
import numpy as np

TOLERANCE = 0.01
"""Of the matrix's entries over their length: about half a degree, below which ffmpeg turns by whole quarters too."""
UNIT = 1 << 16


@dataclass(frozen=True)
class Orientation:
    """One of the eight: exchange of rows and columns first, then mirroring left-right and top-bottom."""

    transposed: bool = False
    mirrored: bool = False
    flipped: bool = False

    def upright(self, frame_HWC: np.ndarray) -> np.ndarray:
        """The frame as a player shows it, uint8 (H, W, C) or (W, H, C)."""
        turned = frame_HWC.transpose(1, 0, 2) if self.transposed else frame_HWC
        return turned[:: -1 if self.flipped else 1, :: -1 if self.mirrored else 1]


def orientation_of(frame: av.VideoFrame) -> Orientation:
    """Read from the frame's display matrix; plain where it has none, or one of zeros, which ffmpeg ignores too.

    ValueError for an angle that is no multiple of 90 degrees: no stored pixel would stay one.
    """
    data: Any = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return Orientation()
    right_x, right_y, _, down_x, down_y = np.frombuffer(bytes(data), np.int32)[:5].tolist()
    across, down = hypot(right_x, right_y), hypot(down_x, down_y)
    if not across or not down:
        return Orientation()
    if max(abs(right_y) / across, abs(down_x) / down) < TOLERANCE:
        return Orientation(mirrored=right_x < 0, flipped=down_y < 0)
    if max(abs(right_x) / across, abs(down_y) / down) < TOLERANCE:
        return Orientation(transposed=True, mirrored=down_x < 0, flipped=right_y < 0)
    shown = [round(value / UNIT, 3) for value in (right_x, right_y, down_x, down_y)]
    raise ValueError(f"its display matrix {shown} turns it by an angle that is no multiple of 90 degrees")

"""Write scenes as real H.264 MP4 files."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

PLAIN = "asm=MMX2,SSE2,SSE3,SSSE3,SSE4.1,SSE4.2"
"""Instructions that x264 may use: those of every x86-64 machine."""


def write_mp4(path: Path, frames_THWC: np.ndarray, repeat: int = 1, fps: int = 8, crf: int = 16) -> None:
    """Encode uint8 RGB frames (T, H, W, 3), each shown `repeat` times, as H.264 in MP4.

    One thread, no B-frames and no AVX-512, with which x264 writes other bytes now and then, so that one version of the
    encoder always writes the same ones.
    """
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps))
        stream.height, stream.width = frames_THWC.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        stream.options = {"crf": str(crf), "preset": "veryfast", "bf": "0", "g": "24", "x264-params": PLAIN}
        for frame_HWC in frames_THWC:
            for _ in range(repeat):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame_HWC, format="rgb24")))
        container.mux(stream.encode())

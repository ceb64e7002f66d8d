"""The frames that a model saw, one small WebP sheet a video.

Shape suffixes: T frames, H height, W width, C channels.
"""

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from sharpv.reports.footage import Footage
from sharpv.videos.frames import Sampling, decode_frames

TILES_A_ROW = 16
QUALITY = 70


@dataclass(frozen=True)
class Sheet:
    """A video's frames side by side, at most TILES_A_ROW in a row, as base64 WebP; or the reason why there is none."""

    webp: str = ""
    reason: str = ""


def sheets(folder: Path, seen: dict[str, Sampling], side: int) -> Iterator[tuple[str, Sheet]]:
    """A name and a sheet for each video (as rows name it -> the frames that the model saw), the longer side `side`
    pixels.

    See `Footage` for how files are found. A file that is not there, cannot be told from others or cannot be read leaves
    a reason instead of pictures.
    """
    footage = Footage(folder)
    for name, frames in tqdm(seen.items(), "frames", unit="video"):
        yield name, _sheet(footage, name, frames, side)


def _sheet(footage: Footage, name: str, frames: Sampling, side: int) -> Sheet:
    try:
        frames_THWC = decode_frames(footage.file(name), frames)
    except ValueError as error:
        return Sheet(reason=str(error))
    return Sheet(webp=base64.b64encode(_webp(frames_THWC, side)).decode())


def _webp(frames_THWC: np.ndarray, side: int) -> bytes:
    frames, height, width, _ = frames_THWC.shape
    scale = side / max(height, width)
    tile = (max(1, round(width * scale)), max(1, round(height * scale)))
    columns = min(frames, TILES_A_ROW)
    sheet = Image.new("RGB", (columns * tile[0], -(-frames // columns) * tile[1]))
    for number, frame_HWC in enumerate(frames_THWC):
        place = (number % columns * tile[0], number // columns * tile[1])
        sheet.paste(Image.fromarray(frame_HWC).resize(tile, Image.Resampling.LANCZOS), place)
    out = BytesIO()
    sheet.save(out, "WEBP", quality=QUALITY, method=4)
    return out.getvalue()

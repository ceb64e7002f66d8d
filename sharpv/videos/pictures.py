"""A folder of pictures read as a video.

Shape suffixes: T frames, H height, W width, C channels.
"""

import re
from pathlib import Path

import numpy as np

from sharpv.videos.sampled import Sampled
from sharpv.videos.sampling import Sampling

FOLDER_FPS = 3.0
"""Rate at which the folders of pictures in MVBench's episodic reasoning were taken."""
ENDINGS = (".jpg", ".jpeg", ".png")


def from_folder(folder: Path, sampling: Sampling) -> Sampled:
    """Sampled pictures in the order of the numbers in their names (2 before 10), hidden files left out.

    ValueError for a folder without pictures, a picture that cannot be read, and pictures of different sizes.
    """
    from PIL import Image

    files = sorted((file for file in folder.iterdir() if _is_picture(file)), key=_natural)
    if not files:
        raise ValueError(f"video {folder} is a folder without pictures")
    places = sampling.indices(len(files), FOLDER_FPS).tolist()
    pictures: dict[int, np.ndarray] = {}
    for place in dict.fromkeys(places):
        try:
            _require_whole(files[place])
            with Image.open(files[place]) as picture:
                pictures[place] = np.asarray(picture.convert("RGB"))
        except OSError as error:
            raise ValueError(f"video {folder}: {files[place].name} cannot be read: {error}") from error
    first = pictures[places[0]]
    for place, picture_HWC in pictures.items():
        if picture_HWC.shape != first.shape:
            raise ValueError(
                f"video {folder}: {files[place].name} is {_size(picture_HWC)} and {files[places[0]].name} "
                f"{_size(first)}; all pictures of a video must have one size"
            )
    return Sampled(np.stack([pictures[place] for place in places]), places, total=len(files), fps=FOLDER_FPS)


def _require_whole(file: Path) -> None:
    """OSError for half a file, which Pillow fills with grey once some other library has told it to take those too."""
    content = file.read_bytes()
    start, end = (b"IDAT", b"IEND") if file.suffix.lower() == ".png" else (b"\xff\xda", b"\xff\xd9")
    if content.rfind(end) <= content.rfind(start):
        raise OSError("it ends in the middle")


def _is_picture(file: Path) -> bool:
    """macOS puts `._name.jpg` beside each picture that it copies: no picture, and hidden."""
    return file.suffix.lower() in ENDINGS and not file.name.startswith(".") and file.is_file()


def _natural(file: Path) -> list[tuple[int, int, str]]:
    return [(1, int(part), part) if part.isdecimal() else (0, 0, part) for part in re.split(r"(\d+)", file.name)]


def _size(picture_HWC: np.ndarray) -> str:
    return f"{picture_HWC.shape[1]} x {picture_HWC.shape[0]}"

"""What tells two video files apart without reading them whole."""

import hashlib
import json
from pathlib import Path

ENDS = 1 << 16


def fingerprint(video: Path) -> str:
    """Of a video file by its size and both ends, where containers keep their index; of a folder by names and sizes."""
    if video.is_dir():
        names = sorted((file.name, file.stat().st_size) for file in video.iterdir())
        return hashlib.sha256(json.dumps(names).encode()).hexdigest()
    if not video.is_file():
        return "missing"
    size = video.stat().st_size
    with video.open("rb") as file:
        head = file.read(ENDS)
        file.seek(max(0, size - ENDS))
        return hashlib.sha256(str(size).encode() + head + file.read(ENDS)).hexdigest()

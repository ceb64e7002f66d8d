"""The video of a stored answer: which file it is, and which of its frames the model saw."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sharpv.videos.frames import Evenly, Listed, Sampling


class Footage:
    """The files below a folder; ValueError where a stored video is not there or cannot be told from others."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._by_name: dict[str, list[Path]] | None = None

    def file(self, stored: str) -> Path:
        """The file that a row names by its path below the data folder, or, as older rows do, by its name alone.

        Where the folder does not hold it at that path, the one file whose path ends most alike is taken.
        """
        wanted = Path(stored).parts
        if len(wanted) > 1 and (exact := self.folder / stored).exists():
            return exact
        if self._by_name is None:
            self._by_name = {}
            for path in sorted(self.folder.rglob("*")):
                self._by_name.setdefault(path.name, []).append(path)
        found = self._by_name.get(wanted[-1], [])
        if not found:
            raise ValueError(f"{stored} is not there below {self.folder}: pass --videos FOLDER")
        alike = [_same_end(path.parts, wanted) for path in found]
        if alike.count(max(alike)) > 1:
            raise ValueError(f"{len(found)} files are called {wanted[-1]} below {self.folder}: pass --videos FOLDER")
        return found[alike.index(max(alike))]


def _same_end(parts: Iterable[str], wanted: Iterable[str]) -> int:
    pairs = zip(reversed(tuple(parts)), reversed(tuple(wanted)), strict=False)
    return next((number for number, (one, other) in enumerate(pairs) if one != other), len(tuple(wanted)))


def stored_video(answer: Any) -> str:
    """How an answer names its video: by path, or by name in rows of before paths were stored."""
    path = answer.get("video_path")
    return path if isinstance(path, str) else answer["video"]


def seen_frames(answer: Any) -> Sampling:
    """A picture for each frame that the model saw, the first where it sees several as one frame (Qwen: pairs); rows of
    before places were stored were sampled evenly, PLLaVA's nearly so."""
    if not isinstance(answer.get("frame_places"), list):
        return Evenly(int(answer["frames"]))
    return Listed(tuple(places[0] for places in _places_by_frame(answer)))


def seen_seconds(answer: Any, fps: float) -> list[float]:
    """When each frame that the model saw is shown, the middle of its pictures' times; empty where that is not known."""
    if not isinstance(answer.get("frame_places"), list) or not fps > 0:
        return []
    return [(places[0] + places[-1]) / 2 / fps for places in _places_by_frame(answer)]


def _places_by_frame(answer: Any) -> list[list[int]]:
    places, frames = answer["frame_places"], int(answer["frames"])
    together = -(-len(places) // frames)
    return [places[start : start + together] for start in range(0, len(places), together)]

"""What the questions about one video share: its tokens, the tower's inside, and selections that no question changes.

Shape suffixes: T frames, P tokens per frame, D width, Q rows of text behind the video.
"""

from dataclasses import dataclass, field
from typing import Any

import torch

from sharpv.answering.prefetch import Prepared
from sharpv.configuration.rows import Row
from sharpv.metrics.timing import StageClock
from sharpv.models.loaded import Loaded
from sharpv.pruners.base import require_selection
from sharpv.runtime.adapter import Vision
from sharpv.tokens import Selection, Tower, VideoTokens

Layers = tuple[int, ...] | None


@dataclass(frozen=True)
class Chosen:
    """A row's selection and what the row alone would have paid: seconds of vision and selection, frames encoded."""

    selection: Selection
    prune_s: float
    vision_s: float
    frames: int


@dataclass
class Encoded:
    """A video at the language model's door. pixels: what the family's preprocessor made of it, a frame an entry.
    tower: recorded in the same vision pass; None where no row asked for it, or after `forget`. times: seconds of
    `decode_video`, `preprocess` and `vision`. seen: what of the video the model saw, as rows store it: places of its
    frames, and how many the decoder had to make up."""

    vision: Vision
    pixels: Any
    tower: Tower | None
    times: dict[str, float]
    seen: dict[str, Any] = field(default_factory=dict)
    shared: dict[str, Chosen] = field(default_factory=dict)

    def forget(self) -> None:
        """Drop what can be made again."""
        self.tower = None
        self.shared.clear()


class SeedWatch(VideoTokens):
    """Video tokens that notice whether their seed was read: a selection made without it holds for every question."""

    seed_read = False
    _seed: int

    @property  # type: ignore[override]
    def seed(self) -> int:
        object.__setattr__(self, "seed_read", True)
        return self._seed

    @seed.setter
    def seed(self, value: int) -> None:
        object.__setattr__(self, "_seed", value)


def tower_layers(row: Row) -> Layers:
    return None if row.visual is None else row.visual.tower_layers


def all_layers(rows: list[Row]) -> Layers:
    """Tower layers that any of the rows reads; None where no row reads the tower."""
    asked = [layers for layers in map(tower_layers, rows) if layers is not None]
    return tuple(sorted({index for layers in asked for index in layers})) if asked else None


@torch.inference_mode()
def encode(loaded: Loaded, prepared: Prepared, layers: Layers) -> Encoded:
    """One vision pass, in which the tower's inside is recorded where `layers` is not None.

    Recording keeps references to tensors that the pass makes anyway: it adds no operation, so the time of the pass is
    also that of rows that record nothing. Memory is charged apart (see `footprint`).
    """
    assert prepared.pixels is not None
    assert prepared.times is not None
    pixels = prepared.pixels.to(loaded.device)
    vision, tower, seconds = vision_pass(loaded, pixels, layers)
    seen = {
        "frame_places": prepared.places,
        "decode_errors": prepared.decode_errors,
        "decoding": prepared.way,
        "frames_cached": prepared.cached,
    }
    return Encoded(vision, pixels, tower, prepared.times | {"vision": seconds}, seen)


def vision_pass(loaded: Loaded, pixels: Any, layers: Layers) -> tuple[Vision, Tower | None, float]:
    """What the model makes of the video, the tower's inside (None where `layers` is None) and the pass's seconds."""
    if layers is None:
        clock = StageClock(loaded.device)
        vision = loaded.adapter.encode(pixels)
        clock.mark("vision")
        return vision, None, clock.seconds()["vision"]
    with loaded.adapter.tap_tower(layers) as tap:
        vision, _, seconds = vision_pass(loaded, pixels, None)
        return vision, tap.tower(), seconds


def choose(loaded: Loaded, encoded: Encoded, row: Row, seed: int, question_QD: torch.Tensor | None = None) -> Chosen:
    """A row's selection, shared with the video's other questions where it was made without the question's seed and
    without the question. The row has a visual stage."""
    assert row.visual is not None
    if row.hash in encoded.shared:
        return encoded.shared[row.hash]
    layers, tower = tower_layers(row), None
    if layers is not None:
        tower = encoded.tower or vision_pass(loaded, encoded.pixels, layers)[1]
    video = SeedWatch(encoded.vision.tokens_TPD, encoded.vision.grid, seed, tower, question_QD)
    clock = StageClock(loaded.device)
    selection = row.visual.select(video)
    clock.mark("prune")
    require_selection(row.visual, selection, video)
    prune_s, vision_s, frames = clock.seconds()["prune"], encoded.times["vision"], video.frames
    if (wanted := row.visual.encoded_frames(video)) is not None:
        frames = len(wanted)
        vision_s = vision_pass(loaded, encoded.pixels[wanted.to(loaded.device)], layers)[2]
    chosen = Chosen(selection, prune_s, vision_s, frames)
    if not video.seed_read and not row.visual.reads_question:
        encoded.shared[row.hash] = chosen
    return chosen

"""What the questions about one video share: its tokens, the tower's inside, and selections that no question changes.

Shape suffixes: T frames, P tokens per frame, C channels, H height, W width, D width, S separator rows, Q rows of
text behind the video.
"""

from dataclasses import dataclass, field

import torch

from sharpv.evaluation.loaded import Loaded
from sharpv.evaluation.prefetch import Prepared
from sharpv.evaluation.rows import Row
from sharpv.metrics.timing import StageClock
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
    """A video at the language model's door. tower: recorded in the same vision pass; None where no row asked for it, or
    after `forget`. times: seconds of `decode_video`, `preprocess` and `vision`."""

    tokens_TPD: torch.Tensor
    separators_SD: torch.Tensor
    pixels_TCHW: torch.Tensor
    tower: Tower | None
    times: dict[str, float]
    shared: dict[str, Chosen] = field(default_factory=dict)

    def forget(self) -> None:
        """Drop what can be made again."""
        self.tower = None
        self.shared.clear()


class SeedWatch(VideoTokens):
    """Video tokens that notice whether their seed was read: a selection made without it holds for every question."""

    seed_read = False

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
    assert prepared.pixels_TCHW is not None
    assert prepared.times is not None
    pixels_TCHW = prepared.pixels_TCHW.to(loaded.device)
    tokens_TPD, separators_SD, tower, seconds = vision_pass(loaded, pixels_TCHW, layers)
    return Encoded(tokens_TPD, separators_SD, pixels_TCHW, tower, prepared.times | {"vision": seconds})


def vision_pass(
    loaded: Loaded, pixels_TCHW: torch.Tensor, layers: Layers
) -> tuple[torch.Tensor, torch.Tensor, Tower | None, float]:
    """Tokens, separators, the tower's inside (None where `layers` is None) and the seconds that the pass took."""
    if layers is None:
        clock = StageClock(loaded.device)
        tokens_TPD, separators_SD = loaded.adapter.encode(pixels_TCHW)
        clock.mark("vision")
        return tokens_TPD, separators_SD, None, clock.seconds()["vision"]
    with loaded.adapter.tap_tower(layers) as tap:
        tokens_TPD, separators_SD, _, seconds = vision_pass(loaded, pixels_TCHW, None)
        return tokens_TPD, separators_SD, tap.tower(), seconds


def choose(
    loaded: Loaded,
    encoded: Encoded,
    row: Row,
    grid: tuple[int, int],
    seed: int,
    question_QD: torch.Tensor | None = None,
) -> Chosen:
    """A row's selection, shared with the video's other questions where it was made without the question's seed and
    without the question."""
    if row.hash in encoded.shared:
        return encoded.shared[row.hash]
    layers, tower = tower_layers(row), None
    if layers is not None:
        tower = encoded.tower or vision_pass(loaded, encoded.pixels_TCHW, layers)[2]
    video = SeedWatch(encoded.tokens_TPD, grid, seed, tower, question_QD)
    clock = StageClock(loaded.device)
    selection = row.visual.select(video)
    clock.mark("prune")
    prune_s, vision_s, frames = clock.seconds()["prune"], encoded.times["vision"], video.frames
    if (wanted := row.visual.encoded_frames(video)) is not None:
        frames = len(wanted)
        vision_s = vision_pass(loaded, encoded.pixels_TCHW[wanted.to(loaded.device)], layers)[3]
    chosen = Chosen(selection, prune_s, vision_s, frames)
    if not video.seed_read and not row.visual.reads_question:
        encoded.shared[row.hash] = chosen
    return chosen

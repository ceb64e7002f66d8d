"""What the runtime asks of a model family; `sharpv.models` holds one implementation a family."""

from dataclasses import dataclass
from typing import Any, Protocol

import torch


@dataclass(frozen=True)
class Geometry:
    """How the video's rows in a prompt are made up: frames * grid[0] * grid[1] tokens, then separator rows."""

    frames: int
    grid: tuple[int, int]
    separators: int

    @property
    def tokens(self) -> int:
        return self.frames * self.grid[0] * self.grid[1]


class Adapter(Protocol):
    """One VideoLLM of transformers, used as it is."""

    model: Any

    @property
    def video_token_id(self) -> int:
        """Id that stands for one video row in the prompt."""
        ...

    @property
    def image_token_id(self) -> int | None:
        """Id that stands for an image row, where that differs from a video row."""
        ...

    @property
    def language_model(self) -> Any:
        """The decoder: has `layers`, `rotary_emb`, `get_input_embeddings()` and `config`."""
        ...

    def geometry(self, rows: int) -> Geometry:
        """Geometry of a video that takes this many rows; ValueError where none fits."""
        ...

    def encode(self, pixels_TCHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Run tower, projector and pooling: tokens (T, P, D) and separator rows (S, D)."""
        ...

    def tap_tower(self, layers: tuple[int, ...]) -> Any:
        """A context manager under which an encode leaves the tower's inside in its `tower()` (a `Tower`)."""
        ...

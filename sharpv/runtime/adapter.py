"""What the runtime asks of a model family; `sharpv.models` holds one implementation a family.

Shape suffixes: T frames, P tokens per frame, S separator rows, L DeepStack levels, N tokens of the video, D width.
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch

SeparatorRule = Literal["keep", "occupied", "frame", "behind", "withdraw"]
"""What becomes of rows that belong to the video but are no tokens (newlines) when tokens go: all stay in their places;
those stay that close a row of the grid with a token left; one stays behind each frame; all stay, but behind the last
row of their frame; none stays."""
Shape = tuple[int, int, int]
"""Frames, rows and columns of one video's tokens."""


@dataclass(frozen=True)
class Geometry:
    """How a video's rows in a prompt are made up: frames * grid[0] * grid[1] tokens, with one separator behind each row
    of each frame's grid where `row_separators`, and `separators` more behind all. rule: of the separators."""

    frames: int
    grid: tuple[int, int]
    separators: int
    row_separators: bool = False
    rule: SeparatorRule = "keep"

    @property
    def tokens(self) -> int:
        return self.frames * self.grid[0] * self.grid[1]

    @property
    def rows(self) -> int:
        return self.tokens + (self.frames * self.grid[0] if self.row_separators else 0) + self.separators

    def arrangement(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Places among the video's rows: of tokens (N,) and separators (S,); and the first and last token that each
        separator closes (S, 2)."""
        height, width = self.grid
        lines = self.frames * height if self.row_separators else 0
        rows = torch.arange(self.tokens + lines + self.separators)
        closed_L2 = torch.arange(lines)[:, None] * width + torch.tensor([0, width - 1])
        closed_S2 = torch.cat([closed_L2, torch.tensor([[0, self.tokens - 1]]).expand(self.separators, 2)])
        if not lines:
            return rows[: self.tokens], rows[self.tokens :], closed_S2
        grid = rows[: self.tokens + lines].unflatten(0, (lines, width + 1))
        return grid[:, :width].flatten(), torch.cat([grid[:, width], rows[self.tokens + lines :]]), closed_S2


@dataclass(frozen=True)
class Vision:
    """What a model makes of a video: tokens, their grid (rows, columns), the row that each separator is, and, where the
    model adds visual features again behind its first decoder layers (DeepStack), those of each token."""

    tokens_TPD: torch.Tensor
    grid: tuple[int, int]
    separator_D: torch.Tensor | None = None
    levels_LND: torch.Tensor | None = None


class Adapter(Protocol):
    """One VideoLLM of transformers, used as it is."""

    model: Any

    @property
    def takes_batches(self) -> bool:
        """Whether the stock model takes the videos of several prompts in one call."""
        ...

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

    def geometry(self, rows: int, shape: Shape | None = None) -> Geometry:
        """Geometry of a video that takes this many rows; `shape` of its tokens where `shapes` tells it.

        ValueError where none fits.
        """
        ...

    def arranged(self, frames: int, grid: tuple[int, int]) -> Geometry:
        """Geometry of a video of so many frames of this grid."""
        ...

    def positions(self, input_ids: torch.Tensor, pixels: Any) -> torch.Tensor | None:
        """Positions (3, N) of a dense prompt (1, N) where they have three components, else None."""
        ...

    def call(self, input_ids: torch.Tensor, pixels: Any) -> dict[str, Any]:
        """Keyword arguments with which the stock model takes a dense prompt (1, N) and its video."""
        ...

    def encode(self, pixels: Any) -> Vision:
        """Run tower, projector and pooling on what the family's preprocessor made, whose length is the number of
        frames."""
        ...

    def tap_tower(self, layers: tuple[int, ...]) -> Any:
        """A context manager under which an encode leaves the tower's inside in its `tower()` (a `Tower`), and that of
        several videos, of so many frames each, in its `towers(frames)`."""
        ...

    def shapes(self) -> AbstractContextManager[list[Shape]]:
        """A context manager whose list takes the shape of each video that a call of the model brings meanwhile, behind
        those of its images, if any; it stays empty only where each run of video rows may be taken for a video."""
        ...

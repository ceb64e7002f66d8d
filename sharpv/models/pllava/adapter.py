"""PLLaVA: stock LLaVA (Llama + CLIP) with an average pooling behind its projector.

Shape suffixes: T frames, P tokens per frame, D width, C channels, H height, W width, R raw patches, X any width.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import LlavaForConditionalGeneration

from sharpv.models.llava_onevision.adapter import TowerTap
from sharpv.runtime.adapter import Geometry, Shape, Vision
from sharpv.tokens import Tower


class PooledProjector(nn.Module):
    """LLaVA's projector followed by PLLaVA's adaptive average pooling over time, rows and columns.

    shape: (frames, rows, columns) after pooling; raw_grid: (rows, columns) of raw patches. Takes (T, R, tower width),
    gives (frames, rows * columns, D) in the input's dtype. Fewer frames than `frames` are first repeated.

    Source: magic-research/PLLaVA 6f49fd2, models/pllava/modeling_pllava.py. Deviations: none.
    """

    def __init__(self, projector: nn.Module, shape: tuple[int, int, int], raw_grid: tuple[int, int]):
        super().__init__()
        self.projector, self.shape, self.raw_grid = projector, shape, raw_grid

    def forward(self, states_TRX: torch.Tensor) -> torch.Tensor:
        frames = self.shape[0]
        if len(states_TRX) < frames:
            states_TRX = states_TRX.repeat_interleave(-(-frames // len(states_TRX)), dim=0)[:frames]
        return self.pool(self.projector(states_TRX), self.shape)

    def pool(self, values_TRX: torch.Tensor, shape: tuple[int, int, int]) -> torch.Tensor:
        """Average raw patches (T, R, X) to `shape`; (shape[0], shape[1] * shape[2], X)."""
        values_XTHW = values_TRX.unflatten(1, self.raw_grid).permute(3, 0, 1, 2)
        return functional.adaptive_avg_pool3d(values_XTHW, shape).permute(1, 2, 3, 0).flatten(1, 2)


@dataclass
class Pllava:
    """Adapter of the stock class around a `PooledProjector`, see `sharpv.runtime.adapter`; ValueError for any other."""

    model: Any
    takes_batches = False

    def __post_init__(self) -> None:
        if type(self.model) is not LlavaForConditionalGeneration:
            raise ValueError(
                f"expected the stock LlavaForConditionalGeneration, got {type(self.model).__name__}: "
                "a subclass may leave weights random; load the stock class"
            )
        if not isinstance(self.model.model.multi_modal_projector, PooledProjector):
            raise ValueError(
                "this LLaVA model pools no video tokens: load PLLaVA with sharpv.models.pllava.checkpoint.load_pllava"
            )

    @property
    def projector(self) -> PooledProjector:
        return self.model.model.multi_modal_projector

    @property
    def video_token_id(self) -> int:
        return self.model.config.image_token_id

    @property
    def image_token_id(self) -> None:
        return None

    @property
    def language_model(self) -> Any:
        return self.model.model.language_model

    @property
    def grid(self) -> tuple[int, int]:
        _, height, width = self.projector.shape
        return height, width

    def geometry(self, rows: int, shape: Shape | None = None) -> Geometry:
        height, width = self.grid
        frames, rest = divmod(rows, height * width)
        if rest or frames < 1:
            raise ValueError(
                f"{rows} video rows are not frames of {height} x {width} tokens: pass one video, not several videos, "
                "and the whole prompt at once (no prefill_chunk_size), made by the model's own processor"
            )
        return self.arranged(frames, self.grid)

    def arranged(self, frames: int, grid: tuple[int, int]) -> Geometry:
        return Geometry(frames, grid, separators=0)

    def positions(self, input_ids: torch.Tensor, pixels: torch.Tensor) -> None:
        return None

    def call(self, input_ids: torch.Tensor, pixels_TCHW: torch.Tensor) -> dict[str, Any]:
        return {"input_ids": input_ids, "pixel_values": pixels_TCHW}

    def encode(self, pixels_TCHW: torch.Tensor) -> Vision:
        tokens_TPD = torch.stack(tuple(self.model.get_image_features(pixels_TCHW, return_dict=True).pooler_output))
        return Vision(tokens_TPD, self.grid)

    def tap_tower(self, layers: tuple[int, ...]) -> "ClipTap":
        return ClipTap(self, layers)

    def shapes(self) -> AbstractContextManager[list[Shape]]:
        return nullcontext([])


class ClipTap(TowerTap):
    """Records the inside of PLLaVA's CLIP tower, whose raw patches come behind a CLS token."""

    def tower(self) -> Tower:
        projector = self.adapter.projector
        frames = projector.shape[0]

        def pool(values_TRX: torch.Tensor) -> torch.Tensor:
            return projector.pool(values_TRX, (len(values_TRX), *self.adapter.grid))

        if self.states_TRX is None:
            raise ValueError("no video went through the vision tower inside the context")
        if len(self.states_TRX) != frames:
            raise ValueError(
                f"the tower saw {len(self.states_TRX)} frames and the projector pools to {frames}: methods that read "
                "the tower need one raw frame per frame fed"
            )
        return Tower(dict(self.queries), dict(self.keys), True, self.states_TRX, None, pool)

"""LLaVA-Video: the parts of stock LLaVA-OneVision with another pooling and a newline behind every row of every frame.

Shape suffixes: T frames, P tokens per frame, R raw patches, X any width, H height, W width.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch.nn import functional
from transformers.modeling_outputs import BaseModelOutputWithPooling

from sharpv.models.llava_onevision.adapter import LlavaOnevision
from sharpv.runtime.adapter import Geometry, SeparatorRule, Shape, Vision

Pooling = Literal["average", "bilinear", "max"]
FAMILY = "llava_video"
"""The `family` in `config.sharpv` of a model that the loader made: its model_type is LLaVA-OneVision's."""


@dataclass
class LlavaVideo(LlavaOnevision):
    """Adapter of the stock LLaVA-OneVision class around LLaVA-Video's weights, see `sharpv.runtime.adapter`.

    pooling: of each frame's patches, `average` and `max` by 2 x 2 without what is left over at an odd side, `bilinear`
    to half the side rounded up. newline: what becomes of the newline rows of pruned tokens.

    Source: LLaVA-VL/LLaVA-NeXT df17966, llava/model/llava_arch.py (get_2dPool, add_token_per_grid). Deviations: none in
    what is fed; `model.generate` takes the encoded video (`call`), since the stock class would pool it another way.
    """

    pooling: Pooling = "average"
    newline: SeparatorRule = "occupied"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, allowed in (("pooling", get_args(Pooling)), ("newline", get_args(SeparatorRule))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}={getattr(self, name)!r} is not one of {', '.join(allowed)}")

    @property
    def side(self) -> int:
        """Patches along a side of the tower's image."""
        vision = self.model.config.vision_config
        return vision.image_size // vision.patch_size

    @property
    def grid(self) -> tuple[int, int]:
        side = math.ceil(self.side / 2) if self.pooling == "bilinear" else self.side // 2
        return side, side

    def geometry(self, rows: int, shape: Shape | None = None) -> Geometry:
        height, width = self.grid
        frames, rest = divmod(rows, height * (width + 1))
        if rest or frames < 1:
            raise ValueError(
                f"{rows} video rows are not frames of {height} rows of {width} tokens and a newline each: pass one "
                "video, and the whole prompt at once, encoded by this adapter"
            )
        return self.arranged(frames, self.grid)

    def arranged(self, frames: int, grid: tuple[int, int]) -> Geometry:
        return Geometry(frames, grid, separators=0, row_separators=True, rule=self.newline)

    def encode(self, pixels: Any) -> Vision:
        """Of a `Clip`."""
        inner, layer = self.model.model, self.model.config.vision_feature_layer
        seen = inner.vision_tower(pixels.values_TX, output_hidden_states=True, return_dict=True)
        states_TRX = seen.hidden_states[layer]
        return Vision(self.pool(inner.multi_modal_projector(states_TRX)), self.grid, inner.image_newline)

    def pool(self, values_TRX: torch.Tensor) -> torch.Tensor:
        values_TXHW = values_TRX.unflatten(1, (self.side, self.side)).permute(0, 3, 1, 2).contiguous()
        if self.pooling == "bilinear":
            pooled_TXHW = functional.interpolate(values_TXHW, size=list(self.grid), mode="bilinear")
        else:
            pool = functional.avg_pool2d if self.pooling == "average" else functional.max_pool2d
            pooled_TXHW = pool(values_TXHW, 2)
        return pooled_TXHW.permute(0, 2, 3, 1).flatten(1, 2)

    def call(self, input_ids: torch.Tensor, pixels: Any) -> dict[str, Any]:
        """The stock class takes the rows of the video in place of its pixels, from transformers 5.18 on."""
        vision = self.encode(pixels)
        token_N, separator_S, _ = self.arranged(len(pixels), self.grid).arrangement()
        rows_ND = vision.tokens_TPD.new_empty(len(token_N) + len(separator_S), vision.tokens_TPD.shape[-1])
        rows_ND[token_N], rows_ND[separator_S] = vision.tokens_TPD.flatten(0, 1), self.model.model.image_newline
        encoded = BaseModelOutputWithPooling(pooler_output=rows_ND[None])
        return {"input_ids": input_ids, "mm_encoder_outputs": {"video": encoded}}

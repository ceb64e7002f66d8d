"""LLaVA-OneVision (Qwen2 + SigLIP) as transformers ships it: where its video tokens lie and how they are made.

Shape suffixes: T frames, P tokens per frame, D width, C channels, H height, W width, N video rows, R raw patches,
A heads, E head width, X tower width.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

import torch
from torch import nn
from transformers import LlavaOnevisionForConditionalGeneration

from sharpv.runtime.adapter import Geometry, Shape, Vision
from sharpv.tokens import Tower


@dataclass
class LlavaOnevision:
    """Adapter of the stock class, see `sharpv.runtime.adapter`; ValueError for a subclass or another class."""

    model: Any
    takes_batches = True

    def __post_init__(self) -> None:
        if type(self.model) is not LlavaOnevisionForConditionalGeneration:
            raise ValueError(
                f"expected the stock LlavaOnevisionForConditionalGeneration, got {type(self.model).__name__}: "
                "as a subclass it would skip the library's key renamings and leave weights random; load the stock class"
            )

    @property
    def video_token_id(self) -> int:
        return self.model.config.video_token_id

    @property
    def image_token_id(self) -> int:
        return self.model.config.image_token_id

    @property
    def language_model(self) -> Any:
        return self.model.model.language_model

    @property
    def grid(self) -> tuple[int, int]:
        vision = self.model.config.vision_config
        side = math.ceil(vision.image_size // vision.patch_size / 2)
        return side, side

    def geometry(self, rows: int, shape: Shape | None = None) -> Geometry:
        height, width = self.grid
        frames, rest = divmod(rows - 1, height * width)
        if rest or frames < 1:
            raise ValueError(
                f"{rows} video rows are not frames of {height} x {width} tokens and one newline row: pass as many "
                "videos as the prompt names, and the whole prompt at once (no prefill_chunk_size), made by the model's "
                "own processor"
            )
        return self.arranged(frames, self.grid)

    def arranged(self, frames: int, grid: tuple[int, int]) -> Geometry:
        return Geometry(frames, grid, separators=1)

    def positions(self, input_ids: torch.Tensor, pixels: Any) -> None:
        return None

    def call(self, input_ids: torch.Tensor, pixels: Any) -> dict[str, Any]:
        return {"input_ids": input_ids, "pixel_values_videos": pixels[None]}

    def encode(self, pixels: Any) -> Vision:
        """Of pixels (T, C, H, W)."""
        rows = self.model.get_video_features(pixels[None], return_dict=True).pooler_output
        rows_ND = rows.reshape(-1, rows.shape[-1])
        tokens = len(pixels) * math.prod(self.grid)
        tokens_TPD = rows_ND[:tokens].unflatten(0, (len(pixels), -1))
        return Vision(tokens_TPD, self.grid, self.model.model.image_newline)

    def pool(self, values_TRX: torch.Tensor) -> torch.Tensor:
        """The model's own pooling of raw patches."""
        return self.model.model.apply_pooling(values_TRX)

    def tap_tower(self, layers: tuple[int, ...]) -> "TowerTap":
        return TowerTap(self, layers)

    @contextmanager
    def shapes(self) -> Iterator[list[Shape]]:
        seen: list[Shape] = []

        def note(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
            encoded = (kwargs.get("mm_encoder_outputs") or {}).get("video")
            # One may be several in a row, which families that encode them themselves hand over.
            if encoded is not None and len(encoded.pooler_output) > 1:
                geometries = [self.geometry(len(rows_ND)) for rows_ND in encoded.pooler_output]
                seen.extend((one.frames, *one.grid) for one in geometries)
            elif kwargs.get("pixel_values_videos") is not None:
                videos, frames = kwargs["pixel_values_videos"].shape[:2]
                seen.extend([(frames, *self.grid)] * videos)

        with self.model.model.register_forward_pre_hook(note, with_kwargs=True):
            yield seen


class TowerTap:
    """Records queries and keys of some tower layers, and what the projector was fed, while the context lasts."""

    def __init__(self, adapter: Any, layers: tuple[int, ...]):
        self.adapter, self.layers = adapter, layers
        self.handles: list = []
        self.queries: dict[int, torch.Tensor] = {}
        self.keys: dict[int, torch.Tensor] = {}
        self.states_TRX: torch.Tensor | None = None

    def __enter__(self) -> "TowerTap":
        blocks = self._vision_model().encoder.layers
        for index in self.layers:
            attention = blocks[index].self_attn
            for projection, store in ((attention.q_proj, self.queries), (attention.k_proj, self.keys)):
                self.handles.append(projection.register_forward_hook(self._store(store, index, attention)))
        projector = self.adapter.model.model.multi_modal_projector
        self.handles.append(projector.register_forward_pre_hook(self._store_states))
        return self

    def _vision_model(self) -> Any:
        tower = self.adapter.model.model.vision_tower
        return getattr(tower, "vision_model", tower)

    def _store(self, store: dict[int, torch.Tensor], index: int, attention: nn.Module):
        def hook(module: nn.Module, args: tuple, output_TRX: torch.Tensor) -> None:
            store[index] = output_TRX.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)

        return hook

    def _store_states(self, module: nn.Module, args: tuple) -> None:
        self.states_TRX = args[0]

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for handle in self.handles:
            handle.remove()
        self.handles.clear()

    @property
    def frames(self) -> int:
        """How many went through the tower in the latest encode."""
        return 0 if self.states_TRX is None else len(self.states_TRX)

    def tower(self) -> Tower:
        """The inside of the tower in the latest encode."""
        if self.states_TRX is None:
            raise ValueError(
                "this method reads the vision tower, but no video went through it inside the context: encode it there"
            )
        vision = self._vision_model()
        head = PoolingHead(vision) if hasattr(vision, "head") else None
        return Tower(dict(self.queries), dict(self.keys), False, self.states_TRX, head, self.adapter.pool)

    def towers(self, frames: list[int]) -> list[Tower]:
        """The inside of the tower for each video of the latest encode, of so many frames each."""
        return [self.tower()] if len(frames) == 1 else split_frames(self.tower(), frames)


def split_frames(tower: Tower, frames: list[int]) -> list[Tower]:
    """A tower that saw the frames of several videos as one of each; ValueError where it saw other frames."""
    if sum(frames) != len(tower.states_TRX):
        raise ValueError(
            f"the vision tower saw {len(tower.states_TRX)} frames in its latest call, but the prompts hold "
            f"{sum(frames)}: encode all videos of a batch in one call, inside the context"
        )
    parts = zip(
        *([part.split(frames) for part in (*tower.queries.values(), *tower.keys.values(), tower.states_TRX)]),
        strict=True,
    )
    return [
        replace(
            tower,
            queries=dict(zip(tower.queries, part, strict=False)),
            keys=dict(zip(tower.keys, part[len(tower.queries) :], strict=False)),
            states_TRX=part[-1],
        )
        for part in parts
    ]


class PoolingHead(nn.Module):
    """A tower's final norm and attention-pooling head: states (T, R, X) to the pooled frame vectors (T, X) and the
    attention that the head's probe pays each patch (T, R), mean over heads, both in the tower's dtype."""

    def __init__(self, vision: Any):
        super().__init__()
        self.norm, self.head = vision.post_layernorm, vision.head

    def forward(self, states_TRX: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        weights: list[torch.Tensor] = []
        with self.head.attention.register_forward_hook(lambda module, args, output: weights.append(output[1])):
            vector_TX = self.head(self.norm(states_TRX))
        return vector_TX, weights[0][:, 0]

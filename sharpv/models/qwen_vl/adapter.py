"""Qwen2.5-VL and Qwen3-VL as transformers ships them: where their video tokens lie, how they are made and numbered.

A frame is a temporal patch, two frames of the video. Shape suffixes: T frames, P tokens per frame, R raw patches of a
frame, X values of a patch or any width, N rows of the prompt, L DeepStack levels, D width, A heads, E head width.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal

import torch
from torch import nn
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen3VLForConditionalGeneration

from sharpv.models.clip import Clip
from sharpv.runtime.adapter import Geometry, Shape, Vision
from sharpv.runtime.attention import rotate
from sharpv.tokens import Tower

CLASSES = (Qwen2_5_VLForConditionalGeneration, Qwen3VLForConditionalGeneration)


@dataclass
class QwenVL:
    """Adapter of the stock classes, see `sharpv.runtime.adapter`; ValueError for a subclass or another class.

    positions: of Qwen2.5-VL, in prompts made here. `trained` numbers the text behind a video from behind all of its
    positions, as the model was trained and transformers up to 4.57 did; `stock` as the installed transformers does,
    which puts that text inside the time range of long videos. The two are one for Qwen3-VL, and calls of
    `model.generate` have the stock ones.
    """

    model: Any
    positions_of_text: Literal["trained", "stock"] = "trained"
    takes_batches = True

    def __post_init__(self) -> None:
        if type(self.model) not in CLASSES:
            raise ValueError(
                f"expected one of the stock classes {', '.join(one.__name__ for one in CLASSES)}, got "
                f"{type(self.model).__name__}: a subclass may leave weights random; load the stock class"
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
    def merge(self) -> int:
        """Clip along each side of a token."""
        return self.model.config.vision_config.spatial_merge_size

    def geometry(self, rows: int, shape: Shape | None = None) -> Geometry:
        if shape is None:
            raise ValueError("no video went through the vision tower: call the model with pixel_values_videos")
        geometry = self.arranged(shape[0], shape[1:])
        if geometry.rows != rows:
            raise ValueError(
                f"{rows} video tokens are not the {geometry.rows} of a video of {shape[0]} x {shape[1]} x {shape[2]}: "
                "pass one video, and the whole prompt at once, made by the model's own processor"
            )
        return geometry

    def arranged(self, frames: int, grid: tuple[int, int]) -> Geometry:
        return Geometry(frames, grid, separators=0)

    def positions(self, input_ids: torch.Tensor, pixels: Clip) -> torch.Tensor:
        ids_1N = input_ids.cpu()
        is_video_N = ids_1N[0] == self.video_token_id
        positions_31N, _ = self.model.model.get_rope_index(
            ids_1N,
            mm_token_type_ids=2 * is_video_N[None].int(),
            video_grid_thw=pixels.grid_thw.cpu(),
            second_per_grid_ts=torch.tensor([pixels.seconds_per_frame]),
        )
        positions_3N = positions_31N[:, 0]
        if self.positions_of_text == "trained":
            last = int(is_video_N.nonzero()[-1])
            behind = positions_3N[:, : last + 1].max() + 1 - positions_3N[0, last + 1]
            positions_3N[:, last + 1 :] += behind.clamp(min=0)
        return positions_3N.to(input_ids.device)

    def call(self, input_ids: torch.Tensor, pixels: Clip) -> dict[str, Any]:
        is_video_1N = input_ids == self.video_token_id
        call = {
            "input_ids": input_ids,
            "pixel_values_videos": pixels.values_TX.flatten(0, 1),
            "video_grid_thw": pixels.grid_thw,
            "mm_token_type_ids": 2 * is_video_1N.int(),
        }
        if isinstance(self.model, Qwen2_5_VLForConditionalGeneration):
            call["second_per_grid_ts"] = torch.tensor([pixels.seconds_per_frame], device=input_ids.device)
        return call

    def encode(self, pixels: Clip) -> Vision:
        values = pixels.values_TX.flatten(0, 1)
        found = self.model.get_video_features(values, pixels.grid_thw, return_dict=True)
        levels = getattr(found, "deepstack_features", None)
        levels_LND = torch.stack([level[0] for level in levels]) if levels else None
        assert pixels.grid is not None
        grid = (pixels.grid[0] // self.merge, pixels.grid[1] // self.merge)
        return Vision(found.pooler_output[0].unflatten(0, (len(pixels), -1)), grid, levels_LND=levels_LND)

    def tap_tower(self, layers: tuple[int, ...]) -> "QwenTap":
        return QwenTap(self, layers)

    @contextmanager
    def shapes(self) -> Iterator[list[Shape]]:
        seen: list[Shape] = []

        def note(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
            grids = (kwargs["grid_thw"] if "grid_thw" in kwargs else args[1]).tolist()
            seen.extend((frames, rows // self.merge, columns // self.merge) for frames, rows, columns in grids)

        with self.model.model.visual.register_forward_pre_hook(note, with_kwargs=True):
            yield seen


class QwenTap:
    """Records queries and keys of some tower blocks as their attention uses them, rotated, and what the merger was fed,
    all in the order of the patches, while the context lasts."""

    def __init__(self, adapter: QwenVL, layers: tuple[int, ...]):
        self.adapter, self.layers = adapter, layers
        self.handles: list = []
        self.projected: dict[int, torch.Tensor] = {}
        self.angles: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def __enter__(self) -> "QwenTap":
        visual = self.adapter.model.model.visual
        for index in self.layers:
            attention = visual.blocks[index].attn
            self.handles.append(attention.register_forward_pre_hook(self._store_angles(index), with_kwargs=True))
            self.handles.append(attention.qkv.register_forward_hook(self._store(index)))
        self.handles.append(visual.register_forward_pre_hook(self._store_grid, with_kwargs=True))
        self.handles.append(visual.merger.register_forward_pre_hook(self._store_states))
        return self

    def _store_angles(self, index: int):
        def hook(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
            self.angles[index] = kwargs["position_embeddings"]

        return hook

    def _store(self, index: int):
        def hook(module: nn.Module, args: tuple, output_NX: torch.Tensor) -> None:
            self.projected[index] = output_NX

        return hook

    def _store_grid(self, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        self.grid_thw = kwargs["grid_thw"] if "grid_thw" in kwargs else args[1]

    def _store_states(self, module: nn.Module, args: tuple) -> None:
        self.states_NX = args[0]

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for handle in self.handles:
            handle.remove()
        self.handles.clear()

    @property
    def frames(self) -> int:
        """How many went through the tower in the latest encode."""
        return int(self.grid_thw[:, 0].sum())

    def towers(self, frames: list[int]) -> list[Tower]:
        """The inside of the tower for each video of the latest encode."""
        return [self.tower(video) for video in range(len(frames))]

    def tower(self, video: int = 0) -> Tower:
        """The inside of the tower for one video of the latest encode."""
        visual, frames = self.adapter.model.model.visual, int(self.grid_thw[video, 0])
        ends = self.grid_thw.prod(1).cumsum(0).tolist()
        start, stop = ends[video] - int(self.grid_thw[video].prod()), ends[video]
        cell = self.adapter.merge**2
        order_C = _cells_in_order(visual, self.grid_thw)

        def by_frame(rows_NX: torch.Tensor) -> torch.Tensor:
            cells_CQX = rows_NX.unflatten(0, (-1, cell))
            cells_CQX = cells_CQX if order_C is None else cells_CQX[order_C]
            return cells_CQX.flatten(0, 1)[start:stop].unflatten(0, (frames, -1))

        queries: dict[int, torch.Tensor] = {}
        keys: dict[int, torch.Tensor] = {}
        for index, projected_NX in self.projected.items():
            heads = visual.blocks[index].attn.num_heads
            parts_3ANE = projected_NX.unflatten(-1, (3, heads, -1)).permute(1, 2, 0, 3)
            cos_NE, sin_NE = (part.float() for part in self.angles[index])
            for store, states_ANE in ((queries, parts_3ANE[0]), (keys, parts_3ANE[1])):
                turned_ANE = rotate(states_ANE.float(), cos_NE, sin_NE).to(states_ANE.dtype)
                store[index] = (
                    by_frame(turned_ANE.transpose(0, 1).flatten(1)).unflatten(-1, (heads, -1)).transpose(1, 2)
                )

        def pool(values_TRX: torch.Tensor) -> torch.Tensor:
            return values_TRX.unflatten(1, (-1, cell)).mean(2)

        return Tower(queries, keys, False, by_frame(self.states_NX), None, pool)


def _cells_in_order(visual: Any, grid_thw: torch.Tensor) -> torch.Tensor | None:
    """Where each merged cell lies among those of a tower with window attention; None where nothing is moved."""
    if not hasattr(visual, "fullatt_block_indexes"):
        return None
    if hasattr(visual, "get_window_index"):
        window_C = torch.as_tensor(visual.get_window_index(grid_thw)[0])
    else:
        from transformers.vision_utils import get_vision_window_index

        window_C = get_vision_window_index(
            grid_thw,
            spatial_merge_size=visual.spatial_merge_size,
            window_size=visual.window_size,
            patch_size=visual.patch_size,
        )[0]
    return window_C.argsort()

"""InternVL3 and 3.5 as transformers ships them: a video is a run of pictures, with text between them.

Shape suffixes: T frames, P tokens per frame, R raw patches of a frame, X any width, B samples, N rows
of the prompt.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from transformers import InternVLForConditionalGeneration

from sharpv.models.llava_onevision.adapter import TowerTap
from sharpv.runtime.adapter import Geometry, Shape, Vision
from sharpv.tokens import Tower

FRONT = 2
"""Rows in front of every frame that are the same: the end of its number's text and the start of a picture."""


@dataclass
class InternVL:
    """Adapter of the stock class, see `sharpv.runtime.adapter`; ValueError for a subclass or another class.

    The class knows pictures alone. The frames of a video are those whose texts in front differ, as the model's own
    processor numbers them; where a text comes again, the next video has begun. Pictures that cannot be frames are
    refused: in tiles, not numbered, or behind other text than frames. Not told apart, since nothing in the ids does: a
    list of numbered images from a video, and a video of one frame from the first frame of the video behind it.
    """

    model: Any
    takes_batches = True

    def __post_init__(self) -> None:
        if type(self.model) is not InternVLForConditionalGeneration:
            raise ValueError(
                f"expected the stock InternVLForConditionalGeneration, got {type(self.model).__name__}: a subclass may "
                "leave weights random; load the stock class"
            )
        config = self.model.config
        if (config.vision_feature_layer, config.vision_feature_select_strategy) != (-1, "default"):
            raise ValueError(
                f"vision_feature_layer={config.vision_feature_layer} and vision_feature_select_strategy="
                f"{config.vision_feature_select_strategy!r} are not what InternVL was released with: -1 and 'default'"
            )

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
    def merge(self) -> int:
        """Patches along each side of a token."""
        return round(1 / self.model.config.downsample_ratio)

    @property
    def grid(self) -> tuple[int, int]:
        vision = self.model.config.vision_config
        height, width = (
            pixels // patch // self.merge for pixels, patch in zip(vision.image_size, vision.patch_size, strict=True)
        )
        return height, width

    def geometry(self, rows: int, shape: Shape | None = None) -> Geometry:
        if shape is None:
            raise ValueError("nothing tells frames from videos: call the model with input_ids and pixel_values")
        geometry = self.arranged(shape[0], shape[1:])
        if geometry.rows != rows:
            raise ValueError(f"{rows} video rows are not the {geometry.rows} of {shape[0]} frames: pass one video")
        return geometry

    def arranged(self, frames: int, grid: tuple[int, int]) -> Geometry:
        return Geometry(frames, grid, separators=0)

    def positions(self, input_ids: torch.Tensor, pixels: torch.Tensor) -> None:
        return None

    def call(self, input_ids: torch.Tensor, pixels: torch.Tensor) -> dict[str, Any]:
        return {"input_ids": input_ids, "pixel_values": pixels}

    def encode(self, pixels: torch.Tensor) -> Vision:
        """Of pixels (T, C, H, W)."""
        return Vision(self.model.get_image_features(pixels, return_dict=True).pooler_output, self.grid)

    def pool(self, values_TRX: torch.Tensor) -> torch.Tensor:
        """The mean of the patches that a token is made of; the model itself puts them side by side."""
        height, width = self.grid
        cells = values_TRX.unflatten(1, (height, self.merge, width, self.merge))
        return cells.mean((2, 4)).flatten(1, 2)

    def tap_tower(self, layers: tuple[int, ...]) -> "InternVLTap":
        return InternVLTap(self, layers)

    @contextmanager
    def shapes(self) -> Iterator[list[Shape]]:
        seen: list[Shape] = []

        def note(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
            ids_BN = args[0] if args else kwargs.get("input_ids")
            if ids_BN is not None and ids_BN.shape[1] > 1:
                seen[:] = [(frames, *self.grid) for ids_N in ids_BN for frames in self._frames(ids_N.tolist())]

        with self.model.register_forward_pre_hook(note, with_kwargs=True):
            yield seen

    def _frames(self, ids: list[int]) -> list[int]:
        """How many pictures each video of a prompt has; ValueError where they are no frames of videos."""
        places = [place for place, one in enumerate(ids) if one == self.video_token_id]
        cuts = [0, *(at for at in range(1, len(places)) if places[at] > places[at - 1] + 1), len(places)]
        size = self.grid[0] * self.grid[1]
        if odd := [stop - start for start, stop in pairwise(cuts) if stop - start not in (0, size)]:
            raise ValueError(
                f"a picture of {odd[0]} rows is no frame of {size} tokens, so that rows and frames do not match: "
                "leave images in tiles (crop_to_patches) out, and give the whole prompt at once"
            )
        between = [tuple(ids[places[at - 1] + 1 : places[at]]) for at in cuts[1:-1]]
        starts, seen = [0], set[tuple[int, ...]]()
        for picture, text in enumerate(between):
            # What announces a second frame comes anew behind the first frame of each video.
            if text in seen:
                starts.append(picture)
                seen = set()
            seen.add(text)
        videos = list(pairwise([*starts, len(places) // size]))
        fronts = {tuple(ids[max(0, places[at] - FRONT) : places[at]]) for at in cuts[:-1] if places}
        if len(fronts) > 1 or (len(videos) > 1 and any(stop == start + 1 for start, stop in videos)):
            raise ValueError(
                f"the {len(between) + 1} pictures of a prompt are no frames of videos, which the model's own processor "
                "numbers one by one: leave images out beside a video"
            )
        return [stop - start for start, stop in videos if stop > start]


class InternVLTap(TowerTap):
    """Records the inside of InternVL's tower, whose raw patches come behind a CLS token."""

    def __enter__(self) -> "InternVLTap":
        tower = self.adapter.model.model.vision_tower
        for index in self.layers:
            attention = tower.encoder.layer[index].attention
            for normed, store in ((attention.q_norm, self.queries), (attention.k_norm, self.keys)):
                self.handles.append(normed.register_forward_hook(self._store(store, index, attention)))
        self.handles.append(tower.layernorm.register_forward_hook(self._store_patches))
        return self

    def _store_patches(self, module: nn.Module, args: tuple, output_TRX: torch.Tensor) -> None:
        self.states_TRX = output_TRX[:, 1:]

    def tower(self) -> Tower:
        if self.states_TRX is None:
            raise ValueError("no video went through the vision tower inside the context: encode it there")
        return Tower(dict(self.queries), dict(self.keys), True, self.states_TRX, None, self.adapter.pool)

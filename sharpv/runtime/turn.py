"""From the arguments of a call to its pruned prompts, one a sample.

Shape suffixes: B batch, N rows of the dense prompt, R position components, D width, M DeepStack levels, W rows of
videos and images, J rows of images.
"""

from dataclasses import dataclass
from typing import Any

import torch

from sharpv.pruners.base import VisualPruner
from sharpv.runtime.adapter import Adapter, Shape
from sharpv.runtime.prompt import FedPrompt, feed_videos, find_spans, unpruned


@dataclass(frozen=True)
class Prompt:
    """One sample of a call without its padding. videos, images: rows of each. positions_RN: None where they count up.
    levels_MWD: DeepStack features of the rows of both, ascending."""

    ids_N: torch.Tensor
    embeddings_BND: torch.Tensor
    is_image_N: torch.Tensor
    is_video_N: torch.Tensor
    images: int
    videos: int
    positions_RN: torch.Tensor | None
    levels_MWD: torch.Tensor | None

    def image_levels(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Rows of the images (J,) and their DeepStack features (M, J, D)."""
        if self.levels_MWD is None or not self.images:
            return None
        of_image_W = self.is_image_N[self.is_image_N | self.is_video_N]
        return self.is_image_N.nonzero().flatten(), self.levels_MWD[:, of_image_W]

    def video_levels(self) -> torch.Tensor | None:
        if self.levels_MWD is None or not self.images:
            return self.levels_MWD
        return self.levels_MWD[:, self.is_video_N[self.is_image_N | self.is_video_N]]


def split(
    adapter: Adapter, ids_BN: torch.Tensor, embeddings: torch.Tensor, padding_B: list[int], call: dict[str, Any]
) -> list[Prompt]:
    """The samples of a call; takes from it what must not reach the decoder. Two read-backs.

    ValueError where positions that need three components have one.
    """
    call.pop("visual_pos_masks", None)
    levels, positions = call.pop("deepstack_visual_embeds", None), call.get("position_ids")
    is_video_BN = ids_BN == adapter.video_token_id
    is_image_BN = is_video_BN.new_zeros(is_video_BN.shape)
    if adapter.image_token_id is not None:
        is_image_BN = ids_BN == adapter.image_token_id
    images_B, videos_B = is_image_BN.sum(1).tolist(), is_video_BN.sum(1).tolist()
    levels_B: list[torch.Tensor | None] = [None] * len(ids_BN)
    if levels is not None:
        rows_B = [images + videos for images, videos in zip(images_B, videos_B, strict=True)]
        levels_B = list(torch.stack(list(levels)).split(rows_B, dim=1))
    # Rows for time, height and width come last; what generate puts in front of them numbers the text.
    three = positions[-3:] if positions is not None and positions.ndim == 3 else None
    if three is not None and len(three) < 3 and any(videos_B):
        raise ValueError(
            "transformers numbers a video that comes in a later turn as if it were text with this family: give the "
            "whole conversation anew, without a cache"
        )
    return [
        Prompt(
            ids_BN[sample, front:],
            embeddings[sample : sample + 1, front:],
            is_image_BN[sample, front:],
            is_video_BN[sample, front:],
            images_B[sample],
            videos_B[sample],
            None if three is None else three[:, sample, front:],
            levels_B[sample],
        )
        for sample, front in enumerate(padding_B)
    ]


def feed_prompts(
    adapter: Adapter,
    prompts: list[Prompt],
    shapes: list[Shape],
    tap: Any,
    visual: VisualPruner | None,
    seed: int,
    goes_on: bool,
) -> list[FedPrompt]:
    """Prune each prompt's videos; images are left alone.

    shapes: the last are those of the videos that this call brought; none where that is not known, a video is then a run
    of rows. ValueError for a prompt without a video, unless the conversation `goes_on`.
    """
    left = _last(adapter, shapes, sum(prompt.videos for prompt in prompts))
    spans = [
        find_spans(
            adapter,
            prompt.ids_N[None],
            _take(adapter, left, prompt.videos),
            prompt.positions_RN,
            prompt.video_levels(),
        )
        if prompt.videos or not goes_on
        else []
        for prompt in prompts
    ]
    frames = [span.frames for its in spans for span in its]
    towers = iter(tap.towers(frames) if tap and frames else [None] * len(frames))
    depth = len(adapter.language_model.layers)
    return [
        feed_videos(prompt.embeddings_BND, its, depth, visual, seed, [next(towers) for _ in its], prompt.image_levels())
        if its
        else unpruned(prompt.embeddings_BND, prompt.positions_RN, prompt.image_levels())
        for prompt, its in zip(prompts, spans, strict=True)
    ]


def _last(adapter: Adapter, shapes: list[Shape], rows: int) -> list[Shape]:
    """The last shapes, as many as have so many rows."""
    return _take(adapter, shapes[::-1], rows)[::-1]


def _take(adapter: Adapter, shapes: list[Shape], rows: int) -> list[Shape]:
    """The first shapes, as many as have so many rows; they leave the list."""
    taken: list[Shape] = []
    while shapes and rows > 0:
        taken.append(shapes.pop(0))
        rows -= adapter.arranged(taken[-1][0], taken[-1][1:]).rows
    return taken

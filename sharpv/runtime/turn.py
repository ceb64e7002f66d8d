"""From the arguments of a call to its pruned prompts, one a sample.

Shape suffixes: B batch, N rows of the dense prompt, R position components, D width, M DeepStack levels, W rows of
videos and images, J rows of images.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch

from sharpv.pruners.base import VisualPruner
from sharpv.runtime.adapter import Adapter, Shape
from sharpv.runtime.prompt import FedPrompt, Span, feed_videos, find_spans, unpruned
from sharpv.tokens import Tower

Images = Literal["keep", "prune"]


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
    """The samples of a call; takes from it what must not reach the decoder. One read-back.

    ValueError where positions that need three components have one.
    """
    call.pop("visual_pos_masks", None)
    levels, positions = call.pop("deepstack_visual_embeds", None), call.get("position_ids")
    is_video_BN = ids_BN == adapter.video_token_id
    is_image_BN = is_video_BN.new_zeros(is_video_BN.shape)
    if adapter.image_token_id is not None:
        is_image_BN = ids_BN == adapter.image_token_id
    images_B, videos_B = torch.stack([is_image_BN.sum(1), is_video_BN.sum(1)]).tolist()
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
    images: Images,
) -> list[FedPrompt]:
    """Prune each prompt's videos, and images as videos of one frame where they are not kept.

    shapes: the last are those of the videos that this call brought, those in front of its images, any before them of
    calls that were refused; none where that is not known, a video is then a run of rows. ValueError for a prompt
    without a video, unless the conversation `goes_on`, and for images that cannot be pruned.
    """
    repeats = _repeats([prompt.videos + prompt.images for prompt in prompts], _rows(adapter, shapes))
    encoded, latest = prompts[::repeats], shapes[::-1]
    of_videos = _take(adapter, latest, sum(prompt.videos for prompt in encoded))[::-1]
    of_images = _take(adapter, latest, sum(prompt.images for prompt in encoded))[::-1]
    prunes_images = images == "prune" and any(prompt.images for prompt in prompts)
    if prunes_images:
        _require_prunable(adapter, of_images, sum(prompt.images for prompt in encoded), visual, tap)
    spans = []
    for prompt in encoded:
        its: list[Span] = []
        ids_1N, positions_RN = prompt.ids_N[None], prompt.positions_RN
        if prompt.videos or not (goes_on or (prunes_images and prompt.images)):
            its_shapes = _take(adapter, of_videos, prompt.videos)
            its += find_spans(adapter, ids_1N, its_shapes, positions_RN, prompt.video_levels())
        if prunes_images and prompt.images:
            _, levels_MJD = prompt.image_levels() or (None, None)
            its_shapes = _take(adapter, of_images, prompt.images)
            its += find_spans(adapter, ids_1N, its_shapes, positions_RN, levels_MJD, adapter.image_token_id)
        spans += [sorted(its, key=lambda span: span.start)] * repeats
    towers = _towers(tap, [[span.frames for span in its] for its in spans])
    depth, fed = len(adapter.language_model.layers), []
    for prompt, its, inside in zip(prompts, spans, towers, strict=True):
        kept = None if prunes_images else prompt.image_levels()
        if its:
            fed.append(feed_videos(prompt.embeddings_BND, its, depth, visual, seed, inside, kept))
        else:
            fed.append(unpruned(prompt.embeddings_BND, prompt.positions_RN, kept))
    return fed


def _repeats(parts_B: list[int], seen: int) -> int:
    """How often in a row each prompt stands in a call for beams or several samples, if its video was encoded before it
    was repeated: the prompts hold `parts_B` of what was encoded, which is `seen` in all. 1 where each has its own."""
    return next((n for n in range(1, len(parts_B) + 1) if sum(parts_B[::n]) == seen and len(parts_B) % n == 0), 1)


def _towers(tap: Any, frames: list[list[int]]) -> list[list[Tower | None]]:
    """The inside of the tower for each video of each prompt, of so many frames each; None without a tap."""
    if tap is None or not any(frames):
        return [[None] * len(its) for its in frames]
    repeats = _repeats([sum(its) for its in frames], tap.frames)
    found = iter(tap.towers([count for its in frames[::repeats] for count in its]))
    return [inside for its in frames[::repeats] for inside in [[next(found) for _ in its]] * repeats]


def _require_prunable(adapter: Adapter, shapes: list[Shape], rows: int, visual: VisualPruner | None, tap: Any) -> None:
    """ValueError where images are no plain grids of tokens, or the method needs the inside of the tower."""
    if _rows(adapter, shapes) != rows:
        raise ValueError(
            f"images='prune' takes images that are one grid of tokens, which {type(adapter).__name__}'s are not (tiles "
            "and newlines): use images='keep'"
        )
    if tap is not None:
        raise ValueError(
            f"{type(visual).__name__} looks into the vision tower, of which only the videos' part is at hand: use "
            "images='keep'"
        )


def _rows(adapter: Adapter, shapes: list[Shape]) -> int:
    return sum(adapter.arranged(shape[0], shape[1:]).rows for shape in shapes)


def _take(adapter: Adapter, shapes: list[Shape], rows: int) -> list[Shape]:
    """The first shapes, as many as have so many rows; they leave the list."""
    taken: list[Shape] = []
    while shapes and rows > 0:
        taken.append(shapes.pop(0))
        rows -= _rows(adapter, taken[-1:])
    return taken

"""A made-up video and prompt for any family, of the sizes that its model sees.

Shape suffixes: T frames (Qwen: temporal patches), C channels, H height, W width, R raw patches, X values of a patch.
"""

from typing import Any

import torch

from sharpv.metrics.flops import both_sides
from sharpv.models.clip import Clip
from sharpv.models.llava_video.adapter import LlavaVideo
from sharpv.runtime.adapter import Adapter, Geometry

QWEN_FRAME = (352, 640)
"""Height and width in pixels that a frame of 360 x 640 is resized to; a frame's grid of patches follows from it."""
TEXT_BEFORE, TEXT_BEHIND, TIME_MARK = 14, 66, 7
"""Rows of text in front of the video, behind it, and of the time or number in front of each frame where
frames have one."""


def video(adapter: Adapter, frames: int, device: torch.device) -> Any:
    """A random picture that a different noise covers in each frame, as the family's preprocessor would hand it over."""
    vision, generator = adapter.model.config.vision_config, torch.Generator().manual_seed(0)
    if hasattr(vision, "spatial_merge_size"):
        factor = vision.patch_size * vision.spatial_merge_size
        grid = tuple(vision.spatial_merge_size * (side // factor) for side in QWEN_FRAME)
        values = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
        values_TRX = _noisy((grid[0] * grid[1], values), frames, generator).to(device, adapter.model.dtype)
        return Clip(values_TRX, tuple(float(t) for t in range(frames)), float(frames), (grid[0], grid[1]))
    pixels_TCHW = _noisy((vision.num_channels, *both_sides(vision.image_size)), frames, generator)
    pixels_TCHW = pixels_TCHW.to(device, adapter.model.dtype)
    if isinstance(adapter, LlavaVideo):
        return Clip(pixels_TCHW, tuple(float(t) for t in range(frames)), float(frames))
    return pixels_TCHW


def prompt_ids(adapter: Adapter, geometry: Geometry, device: torch.device) -> torch.Tensor:
    """Ids (1, N) of random text around the video's rows; frames of Qwen3-VL and InternVL have text
    between them."""
    known = [adapter.video_token_id, adapter.image_token_id, adapter.model.config.text_config.vocab_size]
    lowest = min(number for number in known if number is not None)
    text_N = torch.randint(lowest, (TEXT_BEFORE + TEXT_BEHIND,), generator=torch.Generator().manual_seed(0))
    video_N = torch.full((geometry.rows,), adapter.video_token_id)
    if adapter.model.config.model_type in ("qwen3_vl", "internvl"):
        marks_TX = text_N[:TIME_MARK].expand(geometry.frames, -1)
        video_N = torch.cat([marks_TX, video_N.unflatten(0, (geometry.frames, -1))], dim=1).flatten()
    return torch.cat([text_N[:TEXT_BEFORE], video_N, text_N[TEXT_BEFORE:]])[None].to(device)


def _noisy(shape: tuple[int, ...], frames: int, generator: torch.Generator) -> torch.Tensor:
    picture = torch.randn(shape, generator=generator)
    return 0.9 * picture + 0.4 * torch.randn(frames, *shape, generator=generator)

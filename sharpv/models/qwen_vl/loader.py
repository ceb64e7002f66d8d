"""Qwen2.5-VL and Qwen3-VL checkpoints, fed as lmms-eval 0.7.3's wrappers with qwen_vl_utils 0.0.14 feed them.

Shape suffixes: T temporal patches (two frames each), K frames, H height, W width, C channels, X values of a patch.
"""

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from transformers import (
    AutoTokenizer,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLVideoProcessor,
    Qwen3VLForConditionalGeneration,
    Qwen3VLVideoProcessor,
)

from sharpv.models.checkpoint import load_stock, require_token
from sharpv.models.clip import Clip
from sharpv.models.loaded import Loaded, ModelConfig
from sharpv.models.qwen_vl.adapter import QwenVL
from sharpv.runtime.adapter import Geometry
from sharpv.videos.frames import EvenPairs, Sampled

CLASSES: dict[str, Any] = {
    "qwen2_5_vl": Qwen2_5_VLForConditionalGeneration,
    "qwen3_vl": Qwen3VLForConditionalGeneration,
}
VIDEO_PAD, VISION_START, VISION_END = "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"
MOST_TOKENS_A_PAIR = 768
"""Bound of qwen_vl_utils on the tokens of a frame pair."""
CONTEXT_SHARE = 0.9 * 128000
"""Its bound on the tokens of a whole video."""
ASSUMED_FPS = 24.0
"""What transformers' processor takes for the frame rate of a video whose metadata it is not given."""


@dataclass
class QwenVLModel(ModelConfig):
    """How to load a Qwen2.5-VL or Qwen3-VL checkpoint; other fields: see `ModelConfig`.

    frames: the most that are taken, pairs of which are a frame for the model. fps: take so many a second up to that.
    min_pixels, max_pixels: of a frame. positions: of text behind a Qwen2.5-VL video, see `QwenVL`. wrapper: lmms-eval's
    whose frames Qwen2.5-VL gets; `simple` reads at 2 frames a second first and hands no frame rate on.
    penalty_counts_prompt: as generate counts where it is given the prompt's ids.
    """

    fps: float | None = None
    min_pixels: int = 200704
    max_pixels: int = 1605632
    positions: Literal["trained", "stock"] = "trained"
    wrapper: Literal["chat", "simple"] = "chat"
    penalty_counts_prompt: bool = True

    @property
    def frames_of_tokens(self) -> int:
        return -(-self.frames // 2)

    def load(self) -> Loaded:
        """Load from safetensors only, never executing code from the checkpoint; ValueError as `load_stock`."""
        folder = self.folder()
        family = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
        if family not in CLASSES:
            raise ValueError(f"{folder} holds a {family!r} model; this loader takes {', '.join(CLASSES)}")
        model = load_stock(CLASSES[family], folder, getattr(torch, self.dtype), self.backend())
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        require_token(tokenizer, VIDEO_PAD, model.config.video_token_id, folder)
        processor = video_processor(folder, family)
        simple = self.wrapper == "simple" and family == "qwen2_5_vl"
        sampling = EvenPairs(self.frames, self.decoder, self.fps, simple)
        pixels = partial(
            qwen_pixels, processor, min_pixels=self.min_pixels, max_pixels=self.max_pixels, timed=not simple
        )
        return Loaded(
            name=self.name,
            adapter=QwenVL(model.to(self.torch_device()).eval(), self.positions),
            tokenizer=tokenizer,
            preprocessor=pixels,
            frames=sampling,
            prompt=self.prompt,
            repetition_penalty=self.repetition_penalty,
            stop_ids=frozenset(map(tokenizer.convert_tokens_to_ids, self.stop_tokens)),
            weights_hash=self.weights_hash(),
            expand=partial(timestamped, tokenizer) if family == "qwen3_vl" else None,
            penalty_counts_prompt=self.penalty_counts_prompt,
        )


def video_processor(folder: Path, family: str) -> Any:
    """The checkpoint's video processor, which here only normalises and cuts into patches."""
    kind = Qwen3VLVideoProcessor if family == "qwen3_vl" else Qwen2VLVideoProcessor
    return kind.from_pretrained(folder, trust_remote_code=False)


def frame_size(height: int, width: int, frames: int, factor: int, least: int, most: int) -> tuple[int, int]:
    """Height and width that a video's frames are resized to: multiples of `factor` between so many pixels, as many
    more bounds of qwen_vl_utils on a pair's and a video's tokens allow."""
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

    bound = max(min(MOST_TOKENS_A_PAIR, CONTEXT_SHARE / frames * 2) * factor**2, int(least * 1.05))
    return smart_resize(height, width, factor, least, min(most, bound))


def qwen_pixels(processor: Any, sampled: Sampled, min_pixels: int, max_pixels: int, timed: bool = True) -> Clip:
    """Frames resized by torchvision's antialiased bicubic on whole numbers, normalised, and cut into patches.

    timed: whether the video's own frame rate tells the time between temporal patches.
    """
    from torchvision.transforms import InterpolationMode, functional

    pair, factor = processor.temporal_patch_size, processor.patch_size * processor.merge_size
    count, height, width, _ = sampled.frames_THWC.shape
    size = frame_size(height, width, count, factor, min_pixels, max_pixels)
    frames_KCHW = torch.from_numpy(np.ascontiguousarray(sampled.frames_THWC)).permute(0, 3, 1, 2)
    frames_KCHW = functional.resize(frames_KCHW, list(size), InterpolationMode.BICUBIC, antialias=True).float()
    made = processor(frames_KCHW, do_resize=False, do_sample_frames=False, return_tensors="pt")
    frames, *grid = made["video_grid_thw"][0].tolist()
    seconds_T, per_frame = times(sampled, pair, timed)
    values_TRX = made["pixel_values_videos"].unflatten(0, (frames, -1))
    return Clip(values_TRX, seconds_T, sampled.total / (sampled.fps or ASSUMED_FPS), (grid[0], grid[1]), per_frame)


def times(sampled: Sampled, pair: int, timed: bool = True) -> tuple[tuple[float, ...], float]:
    """The time of each temporal patch, the mean of its frames', and the seconds that the processor takes to lie between
    two of them."""
    fps = sampled.fps if timed and sampled.fps else ASSUMED_FPS
    rate = len(sampled.places) / sampled.total * fps if timed and sampled.fps else ASSUMED_FPS
    seconds = [place / fps for place in sampled.places]
    seconds += [seconds[-1]] * (-len(seconds) % pair)
    halves = zip(seconds[::pair], seconds[pair - 1 :: pair], strict=True)
    return tuple((first + last) / 2 for first, last in halves), pair / rate


def marks(seconds_T: tuple[float, ...]) -> list[str]:
    """What stands in front of each temporal patch of a Qwen3-VL video."""
    return [f"<{second:.1f} seconds>" for second in seconds_T]


def timestamped(tokenizer: Any, geometry: Geometry, clip: Clip) -> list[int]:
    """Ids of a Qwen3-VL video: the time of each temporal patch, then its tokens between their start and end."""
    start, pad, end = tokenizer.convert_tokens_to_ids([VISION_START, VIDEO_PAD, VISION_END])
    frame = [start, *[pad] * (geometry.grid[0] * geometry.grid[1]), end]
    return [one for mark in marks(clip.seconds_T) for one in [*tokenizer(mark).input_ids, *frame]]

"""InternVL3 and 3.5 checkpoints in transformers' layout (-hf), fed as lmms-eval 0.7.3's `internvl_hf` feeds them.

Shape suffixes: T frames, H height, W width, C channels.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoTokenizer, InternVLForConditionalGeneration, InternVLVideoProcessor

from sharpv.models.checkpoint import load_stock, require_token
from sharpv.models.internvl.adapter import InternVL
from sharpv.models.loaded import Loaded, ModelConfig, of_frames
from sharpv.runtime.adapter import Geometry
from sharpv.videos.frames import Middles

PICTURE_START, PICTURE_PAD, PICTURE_END = "<img>", "<IMG_CONTEXT>", "</img>"


@dataclass
class InternVLModel(ModelConfig):
    """How to load an InternVL checkpoint; fields: see `ModelConfig`."""

    def load(self) -> Loaded:
        """Load from safetensors only, never executing code from the checkpoint; ValueError as `load_stock`."""
        folder = self.folder()
        model = load_stock(InternVLForConditionalGeneration, folder, getattr(torch, self.dtype), self.backend())
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        require_token(tokenizer, PICTURE_PAD, model.config.image_token_id, folder)
        processor = video_processor(folder, model.config.vision_config.image_size)
        return Loaded(
            name=self.name,
            adapter=InternVL(model.to(self.torch_device()).eval()),
            tokenizer=tokenizer,
            preprocessor=of_frames(partial(internvl_pixels, processor)),
            frames=Middles(self.frames, self.decoder),
            prompt=self.prompt,
            repetition_penalty=self.repetition_penalty,
            stop_ids=frozenset(map(tokenizer.convert_tokens_to_ids, self.stop_tokens)),
            weights_hash=self.weights_hash(),
            expand=partial(numbered, tokenizer),
        )


def video_processor(folder: Path, size: tuple[int, int]) -> Any:
    """The checkpoint's video processor. ValueError where it makes pictures of another size than the tower was trained
    for, which stretches its positions in silence."""
    processor = InternVLVideoProcessor.from_pretrained(folder, trust_remote_code=False)
    made = (processor.size["height"], processor.size["width"])
    if made != tuple(size):
        raise ValueError(f"{folder}: its processor makes frames of {made} pixels, its tower takes {tuple(size)}")
    return processor


def internvl_pixels(processor: Any, frames_THWC: np.ndarray) -> torch.Tensor:
    """uint8 frames to the tower's pixels, float32 (T, C, H, W): one picture a frame, resized without regard to its
    sides' ratio, never in tiles."""
    frames_TCHW = torch.from_numpy(np.ascontiguousarray(frames_THWC)).permute(0, 3, 1, 2)
    return processor(frames_TCHW, do_sample_frames=False, return_tensors="pt")["pixel_values_videos"][0]


def numbered(tokenizer: Any, geometry: Geometry, pixels: torch.Tensor) -> list[int]:
    """Ids of a video: the number of each frame, then its tokens between their start and end."""
    start, pad, end = tokenizer.convert_tokens_to_ids([PICTURE_START, PICTURE_PAD, PICTURE_END])
    frame = [start, *[pad] * (geometry.grid[0] * geometry.grid[1]), end]
    texts = [f"{'' if number == 1 else chr(10)}Frame{number}: " for number in range(1, geometry.frames + 1)]
    return [one for text in texts for one in [*tokenizer(text).input_ids, *frame]]

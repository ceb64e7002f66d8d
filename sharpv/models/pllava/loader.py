"""PLLaVA checkpoints in the released layout, fed as the official evaluation feeds them (magic-research/PLLaVA 6f49fd2).

Shape suffixes: T frames, H height, W width, C channels.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import CLIPImageProcessorPil, PreTrainedTokenizerFast

from sharpv.models.loaded import Loaded, ModelConfig, of_frames
from sharpv.models.pllava.adapter import Pllava
from sharpv.models.pllava.checkpoint import load_pllava
from sharpv.videos.frames import Segments

LONGEST_EDGE = 640
"""The official processor's bound on the long edge of its first resize, in pixels."""


@dataclass
class PllavaModel(ModelConfig):
    """How to load a PLLaVA checkpoint; `lora_alpha` scales the LoRA that is merged, other fields: see `ModelConfig`."""

    lora_alpha: float = 4.0

    def load(self) -> Loaded:
        """Load from safetensors only; ValueError naming every missing or unexpected key."""
        folder = self.folder()
        model = load_pllava(folder, self.lora_alpha, getattr(torch, self.dtype), self.backend())
        if self.frames != model.config.pooling_shape[0]:
            raise ValueError(
                f"frames={self.frames}, but this checkpoint pools to {model.config.pooling_shape[0]} frames"
            )
        tokenizer: Any = PreTrainedTokenizerFast.from_pretrained(folder, trust_remote_code=False)
        return Loaded(
            name=self.name,
            adapter=Pllava(model.to(self.torch_device())),
            tokenizer=tokenizer,
            preprocessor=of_frames(partial(pllava_pixels, side=model.config.vision_config.image_size)),
            frames=Segments(self.frames, self.decoder),
            prompt=self.prompt,
            repetition_penalty=self.repetition_penalty,
            stop_ids=frozenset(map(tokenizer.convert_tokens_to_ids, self.stop_tokens)),
            weights_hash=self.weights_hash(),
        )


def first_resize(width: int, height: int, side: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Size (width, height) of the first bicubic resize, and the box (width, height) that is kept of it."""
    short, long = sorted((width, height))
    ratio = long / short
    edge = max(side, min(short, int(min(LONGEST_EDGE, long) / ratio)))
    resized, kept = int(edge * long / short), int(edge * ratio)
    if width <= height:
        return (edge, resized), (edge, kept)
    return (resized, edge), (kept, edge)


def pllava_pixels(frames_THWC: np.ndarray, side: int) -> torch.Tensor:
    """uint8 frames to CLIP's normalised pixels, float32 (T, C, side, side): two bicubic resizes, then a centre crop.

    Source: models/pllava/processing_pllava.py; bit-equal with pillow < 13.
    """
    height, width = frames_THWC.shape[1:3]
    size, kept = first_resize(width, height, side)
    frames = [
        Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC).crop((0, 0, *kept)) for frame in frames_THWC
    ]
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": side}, crop_size={"height": side, "width": side}, resample=3
    )
    return processor(frames, return_tensors="pt")["pixel_values"]

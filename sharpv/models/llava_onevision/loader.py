"""LLaVA-OneVision checkpoints, fed as lmms-eval's `llava_onevision` feeds them.

Shape suffixes: T frames, H height, W width, C channels.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from transformers import AutoTokenizer, LlavaOnevisionForConditionalGeneration, SiglipImageProcessorPil

from sharpv.models import adapter_for
from sharpv.models.loaded import Loaded, ModelConfig
from sharpv.videos.frames import Evenly


@dataclass
class LlavaOnevisionModel(ModelConfig):
    """How to load a LLaVA-OneVision checkpoint; fields: see `ModelConfig`."""

    def load(self) -> Loaded:
        """Load from safetensors only, never executing code from the checkpoint."""
        folder = self.folder()
        model: Any = LlavaOnevisionForConditionalGeneration.from_pretrained(
            folder,
            dtype=getattr(torch, self.dtype),
            attn_implementation=self.backend(),
            use_safetensors=True,
            trust_remote_code=False,
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        return Loaded(
            name=self.name,
            adapter=adapter_for(model.to(self.torch_device()).eval()),
            tokenizer=tokenizer,
            preprocessor=partial(siglip_pixels, side=model.config.vision_config.image_size),
            frames=Evenly(self.frames, self.decoder),
            prompt=self.prompt,
            repetition_penalty=self.repetition_penalty,
            stop_ids=frozenset(map(tokenizer.convert_tokens_to_ids, self.stop_tokens)),
            weights_hash=self.weights_hash(),
        )


def siglip_pixels(frames_THWC: np.ndarray, side: int) -> torch.Tensor:
    """uint8 frames to the tower's pixels in -1..1, float32 (T, C, side, side), by PIL's bicubic resize without a crop.

    Source: LLaVA-NeXT df17966, llava/model/multimodal_encoder/siglip_encoder.py; bit-equal with pillow < 13.
    """
    processor = SiglipImageProcessorPil(
        size={"height": side, "width": side}, resample=3, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    return processor(list(frames_THWC), return_tensors="pt")["pixel_values"]

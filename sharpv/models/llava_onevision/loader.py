"""LLaVA-OneVision checkpoints, fed as lmms-eval's `llava_onevision` feeds them.

Shape suffixes: T frames, H height, W width, C channels.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from transformers import AutoTokenizer, LlavaOnevisionForConditionalGeneration, SiglipImageProcessorPil

from sharpv.models.checkpoint import load_stock, require_token
from sharpv.models.llava_onevision.adapter import LlavaOnevision
from sharpv.models.loaded import VIDEO, Loaded, ModelConfig, of_frames
from sharpv.videos.frames import Evenly


@dataclass
class LlavaOnevisionModel(ModelConfig):
    """How to load a LLaVA-OneVision checkpoint; fields: see `ModelConfig`."""

    def load(self) -> Loaded:
        """Load from safetensors only, never executing code from the checkpoint.

        ValueError naming every tensor that is missing, unexpected, of another shape, all zeros or no floating point.
        """
        folder = self.folder()
        model = load_stock(LlavaOnevisionForConditionalGeneration, folder, getattr(torch, self.dtype), self.backend())
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        require_token(tokenizer, VIDEO, model.config.video_token_id, folder)
        return Loaded(
            name=self.name,
            adapter=LlavaOnevision(model.to(self.torch_device()).eval()),
            tokenizer=tokenizer,
            preprocessor=of_frames(partial(siglip_pixels, side=model.config.vision_config.image_size)),
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

"""A VideoLLM ready to answer: weights, tokenizer, image processor, prompt and generation settings of one model config.

Shape suffixes: T frames, H height, W width, C channels, B batch (1), N prompt rows, D width.
"""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoTokenizer, LlavaOnevisionForConditionalGeneration

from sharpv.models import adapter_for
from sharpv.runtime.adapter import Adapter
from sharpv.runtime.decode import Greedy
from sharpv.runtime.prompt import Span, find_span


@dataclass
class Loaded:
    """A loaded model with everything that turns a video and a text into a prompt.

    prompt: the whole prompt string, with `<video>` and `{text}`. stop_ids: ids that end an answer.
    """

    name: str
    adapter: Adapter
    tokenizer: Any
    image_processor: Any
    frames: int
    prompt: str
    repetition_penalty: float
    stop_ids: frozenset[int]
    weights_hash: str

    @property
    def device(self) -> torch.device:
        return self.adapter.model.device

    def preprocess(self, frames_THWC: np.ndarray) -> torch.Tensor:
        """Frames to the tower's pixels (T, C, H, W) on the host, in the weights' dtype."""
        pixels = self.image_processor(list(frames_THWC), return_tensors="pt")["pixel_values"]
        return pixels.to(self.adapter.model.dtype)

    def prompt_ids(self, text: str, video_rows: int) -> torch.Tensor:
        """Ids of the dense prompt (1, N): the video token repeated once a row."""
        before, behind = self.prompt.format(text=text).split("<video>")
        ids = [
            *self.tokenizer(before).input_ids,
            *[self.adapter.video_token_id] * video_rows,
            *self.tokenizer(behind).input_ids,
        ]
        return torch.tensor([ids], device=self.device)

    def embed(self, text: str, tokens_TPD: torch.Tensor, separators_SD: torch.Tensor) -> tuple[torch.Tensor, Span, str]:
        """Dense prompt embeddings (1, N, D), where the video lies in them, and the prompt as text."""
        rows_ND = torch.cat([tokens_TPD.flatten(0, 1), separators_SD])
        ids_BN = self.prompt_ids(text, len(rows_ND))
        embeddings_BND = self.adapter.language_model.get_input_embeddings()(ids_BN).clone()
        span = find_span(self.adapter, ids_BN)
        embeddings_BND[0, span.start : span.stop] = rows_ND.to(embeddings_BND.dtype)
        return embeddings_BND, span, self.prompt.format(text=text)

    def greedy(self, max_new_tokens: int) -> Greedy:
        return Greedy(max_new_tokens, self.stop_ids, self.repetition_penalty)

    def decode(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=True).strip()


@dataclass
class LlavaOnevisionModel:
    """How to load a LLaVA-OneVision checkpoint; the fields of configs/model/*.yaml.

    path: a folder or a hub id. dtype: of the weights. attn_implementation: `auto` = flash_attention_2 where installed
    on CUDA, else sdpa. device: `auto` = CUDA where there is one. calibration: per-model thresholds that pruner
    configs refer to, from documented calibrations.
    """

    name: str
    path: str
    paper_name: str | None
    display: str
    frames: int
    prompt: str
    dtype: str = "float32"
    repetition_penalty: float = 1.0
    stop_tokens: list[str] = field(default_factory=lambda: ["<|im_end|>"])
    attn_implementation: str = "auto"
    device: str = "auto"
    revision: str | None = None
    size_gb: float | None = None
    calibration: dict[str, float] = field(default_factory=dict)

    def load(self) -> Loaded:
        """Load from safetensors only, never executing code from the checkpoint."""
        device = (
            torch.device("cuda" if torch.cuda.is_available() else "cpu")
            if self.device == "auto"
            else torch.device(self.device)
        )
        model: Any = LlavaOnevisionForConditionalGeneration.from_pretrained(
            self.path,
            revision=self.revision or "main",
            dtype=getattr(torch, self.dtype),
            attn_implementation=self._backend(device),
            use_safetensors=True,
        )
        tokenizer = AutoTokenizer.from_pretrained(self.path, revision=self.revision or "main")
        return Loaded(
            name=self.name,
            adapter=adapter_for(model.to(device).eval()),
            tokenizer=tokenizer,
            image_processor=_image_processor(model.config.vision_config.image_size),
            frames=self.frames,
            prompt=self.prompt,
            repetition_penalty=self.repetition_penalty,
            stop_ids=frozenset(map(tokenizer.convert_tokens_to_ids, self.stop_tokens)),
            weights_hash=self.weights_hash(),
        )

    def _backend(self, device: torch.device) -> str:
        from transformers.utils import is_flash_attn_2_available

        if self.attn_implementation != "auto":
            return self.attn_implementation
        return "flash_attention_2" if device.type == "cuda" and is_flash_attn_2_available() else "sdpa"

    def weights_hash(self) -> str:
        """sha256 over a local folder's safetensors files; the hub's revision where the path is a hub id."""
        folder = Path(self.path)
        if not folder.is_dir():
            return f"{self.path}@{self.revision or 'main'}"
        digest = hashlib.sha256()
        for file in sorted(folder.glob("*.safetensors")):
            digest.update(file.read_bytes())
        return digest.hexdigest()


def _image_processor(side: int) -> Any:
    from transformers import SiglipImageProcessorPil

    return SiglipImageProcessorPil(
        size={"height": side, "width": side}, resample=3, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )

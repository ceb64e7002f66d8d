"""One adapter per VideoLLM family."""

from typing import Any

from torch import nn

from sharpv.models.llava_onevision.adapter import LlavaOnevision
from sharpv.models.pllava.adapter import Pllava
from sharpv.models.qwen_vl.adapter import QwenVL
from sharpv.runtime.adapter import Adapter

FAMILIES: dict[str, Any] = {
    "llava_onevision": LlavaOnevision,
    "llava": Pllava,
    "qwen2_5_vl": QwenVL,
    "qwen3_vl": QwenVL,
}


def adapter_for(model: nn.Module) -> Adapter:
    """The adapter of a loaded transformers model; ValueError naming the families there are."""
    family = getattr(getattr(model, "config", None), "model_type", None)
    if family not in FAMILIES:
        raise ValueError(f"no adapter for model type {family!r}; supported: {', '.join(FAMILIES)}")
    return FAMILIES[family](model)

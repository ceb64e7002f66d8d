"""One adapter per VideoLLM family."""

from typing import Any

from torch import nn

from sharpv.models.llava_onevision.adapter import LlavaOnevision
from sharpv.models.llava_video.adapter import FAMILY, LlavaVideo
from sharpv.models.pllava.adapter import Pllava
from sharpv.models.qwen_vl.adapter import QwenVL
from sharpv.runtime.adapter import Adapter

FAMILIES: dict[str, Any] = {
    "llava_onevision": LlavaOnevision,
    "llava": Pllava,
    FAMILY: LlavaVideo,
    "qwen2_5_vl": QwenVL,
    "qwen3_vl": QwenVL,
}


def adapter_for(model: nn.Module) -> Adapter:
    """The adapter of a loaded transformers model; ValueError naming the families there are.

    A model whose stock class does not tell its family carries it, and settings of its adapter, in `config.sharpv`.
    """
    config = getattr(model, "config", None)
    settings = dict(getattr(config, "sharpv", None) or {})
    family = settings.pop("family", None) or getattr(config, "model_type", None)
    if family not in FAMILIES:
        raise ValueError(f"no adapter for model type {family!r}; supported: {', '.join(FAMILIES)}")
    return FAMILIES[family](model, **settings)

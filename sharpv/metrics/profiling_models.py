"""Models to profile: true shapes with random weights, or real weights from a folder."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    Qwen2Config,
)

from sharpv import paths
from sharpv.models.pllava.checkpoint import load_pllava, with_pooling


@dataclass(frozen=True)
class Shape:
    """A model to profile: its stock class and its configuration."""

    model_class: Any
    config: Callable[[], Any]


def _tiny() -> LlavaOnevisionConfig:
    return LlavaOnevisionConfig.from_pretrained(
        paths.REPOSITORY / "sharpv" / "tiny" / "checkpoint", trust_remote_code=False
    )


def _llava_onevision(width: int, feed_forward: int, depth: int, heads: int, kv_heads: int, vocabulary: int, tied: bool):
    """LLaVA-OneVision with the class's own vision tower (SigLIP so400m, 384 pixels, 26 layers)."""
    text = Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=feed_forward,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=131072,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        tie_word_embeddings=tied,
        bos_token_id=None,
        eos_token_id=None,
    )
    return LlavaOnevisionConfig(text_config=text, tie_word_embeddings=tied)


def _pllava_7b() -> LlavaConfig:
    """CLIP-L/14-336, Vicuna 7B, and the pooling that the adapter reads from the configuration."""
    vision = CLIPVisionConfig(
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=24,
        num_attention_heads=16,
        image_size=336,
        patch_size=14,
        projection_dim=768,
    )
    text = LlamaConfig(
        vocab_size=32064,
        hidden_size=4096,
        intermediate_size=11008,
        num_hidden_layers=32,
        num_attention_heads=32,
        max_position_embeddings=4096,
        rms_norm_eps=1e-5,
        bos_token_id=None,
        eos_token_id=None,
    )
    return LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=32000,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        pooling_shape=[16, 12, 12],
    )


SHAPES: dict[str, Shape] = {
    "tiny": Shape(LlavaOnevisionForConditionalGeneration, _tiny),
    "llava_ov_0_5b": Shape(
        LlavaOnevisionForConditionalGeneration, lambda: _llava_onevision(896, 4864, 24, 14, 2, 152000, tied=True)
    ),
    "llava_ov_7b": Shape(
        LlavaOnevisionForConditionalGeneration, lambda: _llava_onevision(3584, 18944, 28, 28, 4, 152128, tied=False)
    ),
    "pllava_7b": Shape(LlavaForConditionalGeneration, _pllava_7b),
}


def shape_config(name: str, layers: int | None = None) -> Any:
    """The configuration of a shape. `layers` cuts the decoder to so many layers and the tower to the same fraction, so
    that the stages keep their shares. ValueError for an unknown name or more layers than there are."""
    if name not in SHAPES:
        raise ValueError(f"no shape {name!r}; there are: {', '.join(SHAPES)}")
    config = SHAPES[name].config()
    depth, tower = config.text_config.num_hidden_layers, config.vision_config.num_hidden_layers
    if layers is None or layers == depth:
        return config
    if not 2 <= layers < depth:
        raise ValueError(f"layers={layers} must lie between 2 and the {depth} of {name}")
    parts = config.to_dict()
    parts["text_config"]["num_hidden_layers"] = layers
    parts["text_config"].pop("layer_types", None)
    parts["vision_config"]["num_hidden_layers"] = max(2, round(tower * layers / depth))
    return type(config)(**parts)


def build(
    name: str, device: torch.device, dtype: torch.dtype, attention: str = "sdpa", layers: int | None = None
) -> Any:
    """The stock model in its true shape, with weights drawn from seed 0; on the meta device, without any."""
    torch.manual_seed(0)
    with device:
        config = shape_config(name, layers)
        model = SHAPES[name].model_class._from_config(config, dtype=dtype, attn_implementation=attention)
    return with_pooling(model) if config.model_type == "llava" else model.eval()


def load(name: str, folder: Path, device: torch.device, dtype: torch.dtype, attention: str = "sdpa") -> Any:
    """The same class with the weights of a folder (safetensors); ValueError where it holds no model."""
    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder} holds no config.json: give the folder of a transformers checkpoint")
    if SHAPES[name].model_class is LlavaForConditionalGeneration:
        return load_pllava(folder, dtype=dtype, attn_implementation=attention).to(device)
    model = SHAPES[name].model_class.from_pretrained(
        folder, dtype=dtype, attn_implementation=attention, use_safetensors=True, trust_remote_code=False
    )
    return model.to(device).eval()

"""Models to profile: true shapes with random weights, or real weights from a folder."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    CLIPVisionConfig,
    InternVLConfig,
    InternVLForConditionalGeneration,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Config,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

from sharpv import paths
from sharpv.models.llava_video.adapter import FAMILY
from sharpv.models.pllava.checkpoint import load_pllava, with_pooling


@dataclass(frozen=True)
class Shape:
    """A model to profile: its stock class and its configuration."""

    model_class: Any
    config: Callable[[], Any]


def _tiny() -> LlavaOnevisionConfig:
    return LlavaOnevisionConfig.from_pretrained(paths.PACKAGE / "tiny" / "checkpoint", trust_remote_code=False)


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


def _llava_video_7b() -> LlavaOnevisionConfig:
    """LLaVA-OneVision 7B's parts under LLaVA-Video's adapter."""
    config = _llava_onevision(3584, 18944, 28, 28, 4, 152064, tied=False)
    config.sharpv = {"family": FAMILY}
    return config


def _qwen2_5_vl(width: int, feed_forward: int, depth: int, heads: int, kv_heads: int, vocabulary: int, tied: bool):
    """Qwen2.5-VL with its window-attention tower."""
    text = _decoder(width, feed_forward, depth, heads, kv_heads, vocabulary, 1e6)
    text["rope_parameters"] |= {"mrope_section": [16, 24, 24]}
    vision = {
        "depth": 32,
        "hidden_size": 1280,
        "intermediate_size": 3420,
        "num_heads": 16,
        "patch_size": 14,
        "window_size": 112,
        "fullatt_block_indexes": [7, 15, 23, 31],
        "tokens_per_second": 2,
        "out_hidden_size": width,
    }
    return Qwen2_5_VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=tied)


def _qwen3_vl(width: int, feed_forward: int, tower: dict[str, Any], tied: bool):
    """Qwen3-VL: 36 decoder layers of 32 heads, DeepStack from three tower blocks."""
    text = _decoder(width, feed_forward, 36, 32, 8, 151936, 5e6) | {"head_dim": 128}
    text["rope_parameters"] |= {"mrope_section": [24, 20, 20], "mrope_interleaved": True}
    vision = {"num_heads": 16, "patch_size": 16, "num_position_embeddings": 2304, "out_hidden_size": width} | tower
    return Qwen3VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=tied)


def _internvl3_8b() -> InternVLConfig:
    """InternVL3 8B with the class's own tower (InternViT 300M, 448 pixels, 24 layers), with biases in attention."""
    text = _decoder(3584, 18944, 28, 28, 4, 151674, 1e6) | {"model_type": "qwen2"}
    return InternVLConfig(text_config=text, vision_config={"attention_bias": True}, tie_word_embeddings=False)


def _decoder(width: int, feed_forward: int, depth: int, heads: int, kv_heads: int, vocabulary: int, theta: float):
    return {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": feed_forward,
        "num_hidden_layers": depth,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "max_position_embeddings": 128000,
        "rope_parameters": {"rope_type": "default", "rope_theta": theta},
        "bos_token_id": None,
        "eos_token_id": None,
    }


SIGLIP2 = {"depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "deepstack_visual_indexes": [8, 16, 24]}
SIGLIP2_LARGE = {"depth": 24, "hidden_size": 1024, "intermediate_size": 4096, "deepstack_visual_indexes": [5, 11, 17]}

SHAPES: dict[str, Shape] = {
    "tiny": Shape(LlavaOnevisionForConditionalGeneration, _tiny),
    "llava_ov_0_5b": Shape(
        LlavaOnevisionForConditionalGeneration, lambda: _llava_onevision(896, 4864, 24, 14, 2, 152000, tied=True)
    ),
    "llava_ov_7b": Shape(
        LlavaOnevisionForConditionalGeneration, lambda: _llava_onevision(3584, 18944, 28, 28, 4, 152128, tied=False)
    ),
    "pllava_7b": Shape(LlavaForConditionalGeneration, _pllava_7b),
    "llava_video_7b": Shape(LlavaOnevisionForConditionalGeneration, _llava_video_7b),
    "qwen2_5_vl_3b": Shape(
        Qwen2_5_VLForConditionalGeneration, lambda: _qwen2_5_vl(2048, 11008, 36, 16, 2, 151936, tied=True)
    ),
    "qwen2_5_vl_7b": Shape(
        Qwen2_5_VLForConditionalGeneration, lambda: _qwen2_5_vl(3584, 18944, 28, 28, 4, 152064, tied=False)
    ),
    "qwen3_vl_4b": Shape(Qwen3VLForConditionalGeneration, lambda: _qwen3_vl(2560, 9728, SIGLIP2_LARGE, tied=True)),
    "qwen3_vl_8b": Shape(Qwen3VLForConditionalGeneration, lambda: _qwen3_vl(4096, 12288, SIGLIP2, tied=False)),
    "internvl3_8b": Shape(InternVLForConditionalGeneration, _internvl3_8b),
}


def shape_config(name: str, layers: int | None = None) -> Any:
    """The configuration of a shape. `layers` cuts the decoder to so many layers and the tower to the same fraction, so
    that the stages keep their shares. ValueError for an unknown name or more layers than there are."""
    if name not in SHAPES:
        raise ValueError(f"no shape {name!r}; there are: {', '.join(SHAPES)}")
    config = SHAPES[name].config()
    depth, tower = config.text_config.num_hidden_layers, tower_depth(config.vision_config)
    if layers is None or layers == depth:
        return config
    if not 2 <= layers < depth:
        raise ValueError(f"layers={layers} must lie between 2 and the {depth} of {name}")
    parts = config.to_dict()
    parts["text_config"]["num_hidden_layers"] = layers
    parts["text_config"].pop("layer_types", None)
    fewer, name_of_depth = max(2, round(tower * layers / depth)), "num_hidden_layers"
    if hasattr(config.vision_config, "depth"):
        name_of_depth = "depth"
        for blocks in ("deepstack_visual_indexes", "fullatt_block_indexes"):
            if blocks in parts["vision_config"]:
                kept = {index * fewer // tower for index in parts["vision_config"][blocks]}
                parts["vision_config"][blocks] = sorted(kept)
    parts["vision_config"][name_of_depth] = fewer
    return type(config)(**parts)


def tower_depth(vision: Any) -> int:
    """Layers of a vision tower, whatever its configuration calls them."""
    return vision.depth if hasattr(vision, "depth") else vision.num_hidden_layers


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

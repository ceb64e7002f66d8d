"""Loading LLaVA-Video's released checkpoints into stock LLaVA-OneVision, every key accounted for."""

import json
from pathlib import Path

import torch
from transformers import LlavaOnevisionConfig, LlavaOnevisionForConditionalGeneration, Qwen2Config, SiglipVisionConfig

from sharpv.models.checkpoint import checkpoint_tensors, load_stock
from sharpv.models.llava_video.adapter import FAMILY

TOWER = "model.vision_tower.vision_tower.vision_model."
SIGLIP_SO400M = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_attention_heads": 16,
    "image_size": 384,
    "patch_size": 14,
}
"""google/siglip-so400m-patch14-384, which the released configuration names without its sizes."""
LANGUAGE = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "max_position_embeddings",
    "rms_norm_eps",
    "tie_word_embeddings",
)
FULL_TOWER = 27
"""Layers of the whole SigLIP so400m; the official tower is built without the last."""


def stock_name(name: str) -> str:
    """A released key's name in stock LLaVA-OneVision."""
    if name.startswith(TOWER):
        return "model.vision_tower." + name.removeprefix(TOWER)
    if name.startswith("model.mm_projector."):
        number, part = name.removeprefix("model.mm_projector.").split(".")
        return f"model.multi_modal_projector.linear_{int(number) // 2 + 1}.{part}"
    if name in ("model.image_newline", "lm_head.weight"):
        return name
    return "model.language_model." + name.removeprefix("model.")


def released_config(folder: Path, tower: dict[str, int], layers: int, video_token: int) -> LlavaOnevisionConfig:
    """The stock configuration of a released folder. ValueError where it says of its newlines that they are not those of
    a grid."""
    released = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if (found := released.get("mm_newline_position", "grid")) != "grid":
        raise ValueError(f"{folder} was made with mm_newline_position={found!r}; LLaVA-Video puts one behind each row")
    rope = {"rope_type": "default", "rope_theta": released.get("rope_theta", 1e6)}
    language = Qwen2Config(**{name: released[name] for name in LANGUAGE if name in released}, rope_parameters=rope)
    config = LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(**tower, num_hidden_layers=layers, vision_use_head=False),
        text_config=language,
        video_token_id=video_token,
        image_token_id=video_token - 1,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        tie_word_embeddings=language.tie_word_embeddings,
    )
    config.sharpv = {"family": FAMILY}
    return config


def load_llava_video(
    folder: Path,
    video_token: int,
    dtype: torch.dtype = torch.float16,
    attn_implementation: str = "sdpa",
    tower: dict[str, int] | None = None,
) -> LlavaOnevisionForConditionalGeneration:
    """Load a folder in the layout of lmms-lab/LLaVA-Video-7B-Qwen2; ValueError naming every missing or unexpected key.

    video_token: id that stands for a row of the video; the official code has one below zero, which no vocabulary holds.
    tower: sizes of the SigLIP tower, so400m's where they are not given. Of a tower with one layer more than the
    official code runs, that layer and what follows it are left out by name.
    """
    state = {stock_name(name): tensor for name, tensor in checkpoint_tensors(folder)}
    layers = 1 + max(int(name.split(".")[4]) for name in state if name.startswith("model.vision_tower.encoder.layers."))
    if layers == FULL_TOWER and tower is None:
        layers -= 1
    state = {name: tensor for name, tensor in state.items() if not _behind(name, layers)}
    config = released_config(folder, tower or SIGLIP_SO400M, layers, video_token)
    model = load_stock(LlavaOnevisionForConditionalGeneration, folder, dtype, attn_implementation, (config, state))
    return model.eval()


def _behind(name: str, layers: int) -> bool:
    """Whether a tensor belongs to a tower layer that is not run, or to the pooling head behind it."""
    if name.startswith("model.vision_tower.head."):
        return True
    return name.startswith("model.vision_tower.encoder.layers.") and int(name.split(".")[4]) >= layers

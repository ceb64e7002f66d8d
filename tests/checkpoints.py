"""Small checkpoints in the released layouts, with random weights that soon say stop."""

import gzip
import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

TOKENIZER = Path(__file__).parent / "golden" / "pllava" / "tokenizer.json.gz"
FRAMES, SIDE, RANK, STOP = 16, 3, 4, 2


def write_pllava(folder: Path) -> LlavaForConditionalGeneration:
    """A PLLaVA folder as released (PEFT-wrapped names, LoRA apart, two shards); the stock model that it equals."""
    torch.manual_seed(0)
    model = LlavaForConditionalGeneration(pllava_config()).eval()
    model.lm_head.weight.data[:] = 0
    model.lm_head.weight.data[STOP] = torch.randn(model.lm_head.weight.shape[1])
    state, released = model.state_dict(), {}
    for name, tensor in state.items():
        if name.endswith(("q_proj.weight", "v_proj.weight")) and "language_model" in name:
            down, up = torch.randn(RANK, tensor.shape[1]) / 10, torch.randn(tensor.shape[0], RANK) / 10
            linear = released_name(name).removesuffix(".weight")
            released[f"{linear}.lora_A.default.weight"], released[f"{linear}.lora_B.default.weight"] = down, up
            released[f"{linear}.base_layer.weight"] = tensor - up @ down * (4 / RANK)
        else:
            released[released_name(name)] = tensor
    folder.mkdir(parents=True, exist_ok=True)
    names = sorted(released)
    for shard, part in enumerate((names[::2], names[1::2]), 1):
        kept = {name: released[name].contiguous() for name in part}
        save_file(kept, folder / f"model-0000{shard}-of-00002.safetensors", {"format": "pt"})
    model.config.save_pretrained(folder)
    (folder / "tokenizer.json").write_bytes(gzip.decompress(TOKENIZER.read_bytes()))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"bos_token": "<s>", "eos_token": "</s>"}), encoding="utf-8"
    )
    return model


def pllava_config(
    frames: int = FRAMES, side: int = SIDE, image_size: int = 48, vocabulary: int = 32064, image_token: int = 32000
) -> LlavaConfig:
    """A small PLLaVA of four layers that pools to `frames` of side x side tokens."""
    vision = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=image_size,
        patch_size=8,
    )
    text = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
    )
    return LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=image_token,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        num_frames=frames,
        pooling_shape=[frames, side, side],
    )


def released_name(name: str) -> str:
    """A stock name as the PEFT-wrapped model would have saved it."""
    if name.startswith("lm_head"):
        return f"language_model.base_model.model.{name}"
    if name.startswith("model.language_model."):
        return name.replace("model.language_model.", "language_model.base_model.model.model.")
    plain = name.removeprefix("model.")
    return plain if "vision_model." in plain else plain.replace("vision_tower.", "vision_tower.vision_model.")

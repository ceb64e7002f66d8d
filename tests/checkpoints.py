"""Small checkpoints in the released layouts, with random weights and short answers."""

import gzip
import json
from pathlib import Path
from typing import Any

import torch
from families import FAMILIES
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from torch.nn.functional import one_hot
from transformers import (
    AutoTokenizer,
    CLIPVisionConfig,
    InternVLVideoProcessor,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerFast,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

from sharpv.models.llava_video.checkpoint import LANGUAGE
from sharpv.tiny.build import build_config, build_model, build_processor, build_tokenizer

TOKENIZER = Path(__file__).parent / "golden" / "pllava" / "tokenizer.json.gz"
FRAMES, SIDE, RANK = 16, 3, 4


def write_pllava(folder: Path) -> LlavaForConditionalGeneration:
    """A PLLaVA folder as released (PEFT-wrapped names, LoRA apart, two shards); the stock model that it equals."""
    torch.manual_seed(0)
    model = LlavaForConditionalGeneration(pllava_config()).eval()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_bytes(gzip.decompress(TOKENIZER.read_bytes()))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"bos_token": "<s>", "eos_token": "</s>"}), encoding="utf-8"
    )
    end_soon(model, AutoTokenizer.from_pretrained(folder), "</s>")
    state, released = model.state_dict(), {}
    for name, tensor in state.items():
        if name.endswith(("q_proj.weight", "v_proj.weight")) and "language_model" in name:
            down, up = torch.randn(RANK, tensor.shape[1]) / 10, torch.randn(tensor.shape[0], RANK) / 10
            linear = released_name(name).removesuffix(".weight")
            released[f"{linear}.lora_A.default.weight"], released[f"{linear}.lora_B.default.weight"] = down, up
            released[f"{linear}.base_layer.weight"] = tensor - up @ down * (4 / RANK)
        else:
            released[released_name(name)] = tensor
    names = sorted(released)
    for shard, part in enumerate((names[::2], names[1::2]), 1):
        kept = {name: released[name].contiguous() for name in part}
        save_file(kept, folder / f"model-0000{shard}-of-00002.safetensors", {"format": "pt"})
    model.config.save_pretrained(folder)
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


def end_soon(model: Any, tokenizer: Any, end: str = "<|im_end|>", length: int = 4) -> None:
    """Let an answer be so many tokens and the end.

    Every id has a number below `length`, what a prompt ends with has `length`: a token is followed by one of the number
    below its own, one of number 0 by the end. The first dimensions of the states hold these numbers.
    """
    read, said = (layer.weight.data for layer in (model.get_input_embeddings(), model.get_output_embeddings()))
    numbers = torch.arange(len(said)) % length
    numbers[tokenizer("assistant\n(,:", add_special_tokens=False)["input_ids"]] = length
    read[:, : length + 1] = 4 * one_hot(numbers)
    said[:, : length + 1] = 100 * one_hot(numbers + 1)[:, : length + 1]
    said[tokenizer.convert_tokens_to_ids(end)] = 100 * one_hot(torch.tensor(0), said.shape[1])


def write_llava_onevision(folder: Path) -> None:
    """A LLaVA-OneVision folder in transformers' layout, whose words are the tiny model's."""
    torch.manual_seed(0)
    tokenizer = two_ends(build_tokenizer())
    config = build_config(tokenizer, tower_width=32, layers=4, width=32, feed_forward=64)
    config.tie_word_embeddings = config.text_config.tie_word_embeddings = False
    model = build_model(config)
    end_soon(model, tokenizer)
    model.save_pretrained(folder)
    build_processor(tokenizer).save_pretrained(folder)


def two_ends(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """With the second token that ends an answer, which released tokenizers have."""
    tokenizer.add_tokens("<|endoftext|>", special_tokens=True)
    return tokenizer


QWEN = [
    "<|im_end|>",
    "<|endoftext|>",
    "<|im_start|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
]


def byte_tokenizer(specials: list[str], **settings) -> PreTrainedTokenizerFast:
    """A token a byte, and behind them these."""
    vocabulary = {letter: number for number, letter in enumerate(sorted(ByteLevel.alphabet()))}
    tokenizer = Tokenizer(BPE(vocabulary, []))
    tokenizer.pre_tokenizer, tokenizer.decoder = ByteLevel(add_prefix_space=False), ByteLevelDecoder()
    tokenizer.add_special_tokens(specials)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>", **settings
    )


PICTURE = 48 * 48
"""Pixels of a picture of 6 x 6 tokens for the small Qwen models."""
TEMPLATE = """{% for turn in messages %}<|im_start|>{{ turn['role'] }}
{% for part in turn['content'] %}{% if part['type'] == 'text' %}{{ part['text'] }}{% else %}<|vision_start|><|\
{{ part['type'] }}_pad|><|vision_end|>{% endif %}{% endfor %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


def qwen_processor(name: str) -> Any:
    """The stock processor of a small Qwen model; Qwen3's bounds are of a whole video's pixels."""
    cut = {"patch_size": 4, "merge_size": 2, "temporal_patch_size": 2, "cap_pixels_per_frame": False}
    picture = {"shortest_edge": PICTURE, "longest_edge": PICTURE}
    images = Qwen2VLImageProcessor(patch_size=4, merge_size=2, temporal_patch_size=2, size=picture)
    if name == "qwen2_5_vl":
        videos = Qwen2VLVideoProcessor(**cut, size=picture)
        return Qwen2_5_VLProcessor(images, byte_tokenizer(QWEN), videos, chat_template=TEMPLATE)
    whole = {"shortest_edge": 2 * PICTURE, "longest_edge": 8 * PICTURE}
    videos = Qwen3VLVideoProcessor(**cut, size=whole)
    return Qwen3VLProcessor(images, byte_tokenizer(QWEN), videos, chat_template=TEMPLATE)


def write_qwen(folder: Path, name: str) -> None:
    """A Qwen folder as released: stock names, byte-level tokenizer, processor; `name` is its model_type."""
    model, _ = FAMILIES[name]()
    processor = qwen_processor(name)
    end_soon(model, processor.tokenizer)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def write_internvl(folder: Path) -> None:
    """An InternVL folder in transformers' layout, as `write_qwen`."""
    model, _ = FAMILIES["internvl"]()
    pictures = {"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>"}
    specials = ["<|im_end|>", "<|endoftext|>", "<|im_start|>", "<video>", *pictures.values()]
    tokenizer = byte_tokenizer(specials, extra_special_tokens=pictures | {"video_token": "<video>"})
    end_soon(model, tokenizer)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    height, width = model.config.vision_config.image_size
    InternVLVideoProcessor(
        size={"height": height, "width": width}, image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225]
    ).save_pretrained(folder)


TOWER = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "image_size": 96, "patch_size": 8}


def write_llava_video(folder: Path) -> None:
    """A LLaVA-Video folder as released (official names and configuration), with the tiny model's tokenizer."""
    model, _ = FAMILIES["llava_video"]()
    tokenizer = two_ends(build_tokenizer())
    end_soon(model, tokenizer)
    names = {"model.vision_tower.": "model.vision_tower.vision_tower.vision_model.", "model.language_model.": "model."}
    names |= {f"model.multi_modal_projector.linear_{n}": f"model.mm_projector.{2 * n - 2}" for n in (1, 2)}
    released = {}
    for name, tensor in model.state_dict().items():
        old, new = next(((old, new) for old, new in names.items() if name.startswith(old)), ("", ""))
        released[new + name.removeprefix(old)] = tensor.contiguous()
    folder.mkdir(parents=True, exist_ok=True)
    save_file(released, folder / "model.safetensors", {"format": "pt"})
    text = model.config.text_config
    config = {"model_type": "llava_qwen", "mm_newline_position": "grid", "rope_theta": 1e4}
    config |= {field: getattr(text, field) for field in LANGUAGE}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    tokenizer.save_pretrained(folder)

"""A small random model of each family whose video is 8 frames of 6 x 6 tokens, with inputs for `model.generate`."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from transformers import (
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLVisionConfig,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Config,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    SiglipVisionConfig,
)

from sharpv.models import adapter_for
from sharpv.models.clip import Clip
from sharpv.models.llava_video.adapter import FAMILY

FRAMES, SIDE, DEPTH = 8, 6, 4
GOLDEN = Path(__file__).parent / "golden"
SYSTEM, QUESTION = [1, 5, 6, 7], [8, 9, 10, 11]


def recorded_config(name: str) -> dict:
    """The configuration of a recorded tiny model, at this depth."""
    from safetensors import safe_open

    with safe_open(GOLDEN / name / "model.safetensors", "pt") as file:
        config = json.loads(file.metadata()["config"])
    config["text_config"] |= {"num_hidden_layers": DEPTH, "initializer_range": 0.08}
    # Recorded for more layers than are left.
    config["text_config"].pop("layer_types", None)
    return config


def still_with_noise(*shape: int) -> torch.Tensor:
    """A video in which most stays as it is: (FRAMES, *shape)."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(shape, generator=generator) + 0.2 * torch.randn(FRAMES, *shape, generator=generator)


class EncodedAtTheCall(Mapping):
    """Keyword arguments whose video is encoded whenever they are handed over, as inside a context a tower is tapped."""

    def __init__(self, adapter, input_ids: torch.Tensor, clip: Clip):
        self.adapter, self.clip = adapter, clip
        self.given = {"input_ids": input_ids, "mm_encoder_outputs": None}

    def __getitem__(self, name: str):
        if name != "mm_encoder_outputs":
            return self.given[name]
        with torch.no_grad():
            return self.adapter.call(self.given["input_ids"], self.clip)[name]

    def __iter__(self):
        return iter(self.given)

    def __len__(self) -> int:
        return len(self.given)


def qwen(name: str, make_config, make_model) -> tuple[torch.nn.Module, dict]:
    """A Qwen model, and inputs with a video of 16 pictures."""
    torch.manual_seed(0)
    model = make_model._from_config(make_config.from_dict(recorded_config(name)), attn_implementation="sdpa").eval()
    model.generation_config.eos_token_id = None
    adapter, vision = adapter_for(model), model.config.vision_config
    values = 3 * vision.temporal_patch_size * vision.patch_size**2
    merged = SIDE * vision.spatial_merge_size
    clip = Clip(
        still_with_noise(merged * merged, values), tuple(float(frame) for frame in range(FRAMES)), grid=(merged, merged)
    )
    start, end, pad = model.config.vision_start_token_id, model.config.vision_end_token_id, adapter.video_token_id
    frame = [pad] * SIDE**2
    video = [start, *frame * FRAMES, end]
    if name == "qwen3_vl":
        video = [one for number in range(FRAMES) for one in [20 + number, start, *frame, end]]
    ids = torch.tensor([[*SYSTEM, *video, *QUESTION]])
    return model, adapter.call(ids, clip)


def qwen2_5_vl() -> tuple[torch.nn.Module, dict]:
    return qwen("qwen2_5_vl", Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration)


def qwen3_vl() -> tuple[torch.nn.Module, dict]:
    return qwen("qwen3_vl", Qwen3VLConfig, Qwen3VLForConditionalGeneration)


def decoder(vocabulary: int) -> Qwen2Config:
    return Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=DEPTH,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=False,
        initializer_range=0.08,
    )


def llava_video() -> tuple[torch.nn.Module, Mapping]:
    torch.manual_seed(0)
    language = decoder(vocabulary=200)
    tower = SiglipVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=16 * SIDE,
        patch_size=8,
        vision_use_head=False,
    )
    config = LlavaOnevisionConfig(
        vision_config=tower,
        text_config=language,
        video_token_id=199,
        image_token_id=198,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
    )
    config.sharpv = {"family": FAMILY}
    model = LlavaOnevisionForConditionalGeneration(config).eval()
    model.generation_config.eos_token_id = None
    pixels_TCHW = still_with_noise(3, 16 * SIDE, 16 * SIDE)
    adapter = adapter_for(model)
    rows = adapter.arranged(FRAMES, (SIDE, SIDE)).rows
    ids = torch.tensor([[*SYSTEM, *[199] * rows, *QUESTION]])
    return model, EncodedAtTheCall(adapter, ids, Clip(pixels_TCHW, tuple(map(float, range(FRAMES)))))


def internvl() -> tuple[torch.nn.Module, dict]:
    torch.manual_seed(0)
    start, end, pad = 260, 261, 262
    language = decoder(vocabulary=264)
    tower = InternVLVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=(16 * SIDE, 16 * SIDE),
        patch_size=(8, 8),
        initializer_range=0.2,
    )
    config = InternVLConfig(
        vision_config=tower,
        text_config=language,
        image_token_id=pad,
        image_seq_length=SIDE**2,
        tie_word_embeddings=False,
    )
    model = InternVLForConditionalGeneration(config).eval()
    model.generation_config.eos_token_id = None
    embeddings = model.model.vision_tower.embeddings
    for weight in (embeddings.cls_token, embeddings.position_embeddings):  # the class begins with zeros
        torch.nn.init.normal_(weight, std=0.2)
    video = [one for number in range(FRAMES) for one in [20 + number, 30, start, *[pad] * SIDE**2, end]]
    ids = torch.tensor([[*SYSTEM, *video, *QUESTION]])
    return model, {"input_ids": ids, "pixel_values": still_with_noise(3, 16 * SIDE, 16 * SIDE)}


FAMILIES = {"llava_video": llava_video, "qwen2_5_vl": qwen2_5_vl, "qwen3_vl": qwen3_vl, "internvl": internvl}

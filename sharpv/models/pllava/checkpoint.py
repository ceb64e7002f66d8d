"""Loading PLLaVA's released checkpoints into stock LLaVA: PEFT prefixes off, LoRA merged, every key accounted for."""

from collections.abc import Iterator
from pathlib import Path

import torch
from transformers import LlavaConfig, LlavaForConditionalGeneration

from sharpv.models.checkpoint import checkpoint_tensors, load_stock
from sharpv.models.pllava.adapter import PooledProjector

WRAPPED = "language_model.base_model.model."
LORA_A, LORA_B = ".lora_A.default.weight", ".lora_B.default.weight"


def merge_lora(base_OI: torch.Tensor, down_RI: torch.Tensor, up_OR: torch.Tensor, alpha: float) -> torch.Tensor:
    """W + alpha / r B A, computed in float32, in the dtype of W (O out, I in, R rank)."""
    update_OI = up_OR.float() @ down_RI.float() * (alpha / len(down_RI))
    return (base_OI.float() + update_OI).to(base_OI.dtype)


def stock_name(name: str) -> str:
    """A released key's name in stock LLaVA, `base_layer` of a LoRA-wrapped linear included."""
    if name.startswith(WRAPPED):
        inner = name.removeprefix(WRAPPED).replace(".base_layer.", ".")
        return inner if inner.startswith("lm_head.") else "model.language_model." + inner.removeprefix("model.")
    return "model." + name.replace("vision_tower.vision_model.", "vision_tower.")


def released_state(tensors: Iterator[tuple[str, torch.Tensor]], lora_alpha: float) -> dict[str, torch.Tensor]:
    """Stock names and merged weights of a released checkpoint; ValueError for a LoRA half without its other parts."""
    state: dict[str, torch.Tensor] = {}
    halves: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors:
        for suffix in (LORA_A, LORA_B):
            if name.endswith(suffix):
                halves.setdefault(stock_name(name.removesuffix(suffix) + ".weight"), {})[suffix] = tensor
                break
        else:
            state[stock_name(name)] = tensor
    for name, pair in halves.items():
        if set(pair) != {LORA_A, LORA_B} or name not in state:
            raise ValueError(f"the checkpoint holds only a part of the LoRA of {name}: {sorted(pair)}")
        state[name] = merge_lora(state[name], pair[LORA_A], pair[LORA_B], lora_alpha)
    return state


def load_pllava(
    folder: Path, lora_alpha: float = 4.0, dtype: torch.dtype = torch.bfloat16, attn_implementation: str = "sdpa"
) -> LlavaForConditionalGeneration:
    """Load a folder in PLLaVA's released layout; ValueError naming every missing or unexpected key.

    lora_alpha: official evaluation uses 4 (trained with 32, see shared/specs/pllava.md). Deviation: LoRA is merged in
    float32, officially it stays unmerged in bfloat16, which differs by bfloat16's rounding.
    """
    config = LlavaConfig.from_pretrained(folder, trust_remote_code=False)
    state = released_state(checkpoint_tensors(folder), lora_alpha)
    model = load_stock(LlavaForConditionalGeneration, folder, dtype, attn_implementation, (config, state))
    return with_pooling(model)


def with_pooling(model: LlavaForConditionalGeneration) -> LlavaForConditionalGeneration:
    """Put the pooling of `config.pooling_shape` behind the projector; ValueError where the configuration has none."""
    shape = getattr(model.config, "pooling_shape", None)
    if shape is None:
        raise ValueError("the configuration has no pooling_shape: this is not a PLLaVA checkpoint")
    vision = model.config.vision_config
    side = vision.image_size // vision.patch_size
    projector = model.model.multi_modal_projector
    model.model.multi_modal_projector = PooledProjector(projector, (shape[0], shape[1], shape[2]), (side, side))
    return model.eval()

"""Replay of what the official code feeds PLLaVA.

Shape suffixes: T frames, H height, W width, C channels, R raw patches, P pooled tokens, X and D widths, N prompt rows.
"""

import gzip
import json
import re
import tempfile
from functools import cache
from pathlib import Path
from string import ascii_uppercase

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import (
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerFast,
)

from sharpv.models.pllava.adapter import PooledProjector
from sharpv.models.pllava.checkpoint import merge_lora, stock_name
from sharpv.models.pllava.loader import pllava_pixels
from sharpv.models.pllava.prompts import multiple_choice, open_ended
from sharpv.videos.frames import Segments

from .compare import Recording, Result, by_content, close, content_of, equal, tensors, there_name, values

TOKENIZER = Path(__file__).resolve().parents[1] / "golden" / "pllava" / "tokenizer.json.gz"


def segment_frames(path: Path) -> Result:
    compared = 0
    for case in json.loads(path.read_text(encoding="utf-8")):
        bound = tuple(case["bound"]) if case["bound"] else None
        ours = Segments(len(case["indices"]), bound=bound).indices(case["frames"], case["fps"])
        compared += equal(str(bound), ours.tolist(), case["indices"])
    return compared, 0.0


def pllava_preprocess(path: Path) -> Result:
    golden, difference, compared = load_file(path), 0.0, 0
    for name in sorted({key.split(".")[0] for key in golden}):
        width, height = map(int, name.split("x"))
        frame_HWC = golden[f"{name}.frame"].numpy() if f"{name}.frame" in golden else None
        if frame_HWC is None:
            tiles = Image.fromarray(golden[f"{name}.tiles_nearest"].numpy())
            frame_HWC = np.asarray(tiles.resize((width, height), Image.Resampling.NEAREST))
        sparse = pllava_pixels(frame_HWC[None], 336)[0, :, ::21, ::21]
        difference = max(difference, close(name, sparse, golden[f"{name}.pixel_values_every_21st"], 1e-6))
        compared += sparse.numel()
    return compared, difference


def poolings(rows: int, side: int) -> list[tuple[int, int, int]]:
    """Shapes (frames, height, width) of so many rows, square ones of few frames first."""
    sides = [size for size in range(side, 0, -1) if rows % size == 0]
    shapes = [(rows // (high * wide), high, wide) for high in sides for wide in sides if rows % (high * wide) == 0]
    return sorted(shapes, key=lambda shape: (shape[1] != shape[2], shape[0]))


def pooled(stock: torch.nn.Module, states_TRX: torch.Tensor, shape: tuple[int, int, int]) -> torch.Tensor:
    """Our projector's rows (1, N, D), whatever their frame."""
    side = round(states_TRX.shape[1] ** 0.5)
    with torch.inference_mode():
        return PooledProjector(stock, shape, (side, side))(states_TRX).flatten(0, 1)[None]


def projector(path: Path) -> Result:
    golden, difference, compared = load_file(path), 0.0, 0
    for case in sorted({key.split(".")[0] for key in golden}):
        states_TRX = golden[f"{case}.input"]
        shape = pooling_of(golden, case)
        for kind, dtype in (("output", torch.float32), ("output_bf16", torch.bfloat16)):
            ours = pooled(stock_projector(golden, case).to(dtype), states_TRX.to(dtype), shape)
            difference = max(difference, close(f"{case} {kind}", ours, golden[f"{case}.{kind}"].to(dtype), 1e-6))
            compared += ours.shape[1]
    return compared, difference


def pooling_of(golden: dict[str, torch.Tensor], case: str) -> tuple[int, int, int]:
    """The shape of a case, which its file does not name: of those with as many rows, the one that gives the output."""
    stock, states_TRX, output = stock_projector(golden, case), golden[f"{case}.input"], golden[f"{case}.output"]
    for shape in poolings(output.shape[1], round(states_TRX.shape[1] ** 0.5)):
        if torch.allclose(pooled(stock, states_TRX, shape), output, rtol=0, atol=1e-6):
            return shape
    raise AssertionError(f"{case}: no pooling to {output.shape[1]} rows gives the output")


def stock_projector(golden: dict[str, torch.Tensor], case: str) -> torch.nn.Module:
    """Stock LLaVA's projector with a case's weights."""
    wide, narrow = golden[f"{case}.linear_1.weight"].shape
    config = LlavaConfig(
        vision_config={
            "model_type": "clip_vision_model",
            "hidden_size": narrow,
            "num_hidden_layers": 1,
            "num_attention_heads": 1,
        },
        text_config={
            "model_type": "llama",
            "hidden_size": wide,
            "num_hidden_layers": 1,
            "num_attention_heads": 1,
            "intermediate_size": 4,
            "vocab_size": 8,
        },
    )
    found = LlavaForConditionalGeneration(config).model.multi_modal_projector
    found.load_state_dict({name: golden[f"{case}.{name}"] for name in found.state_dict()})
    return found.eval()


def lora(path: Path) -> Result:
    golden = load_file(path)
    merged_OI = merge_lora(
        golden["q_proj.base_layer.weight"],
        golden["q_proj.lora_A.default.weight"],
        golden["q_proj.lora_B.default.weight"],
        float(golden["lora_alpha"]),
    )
    output = golden["input"] @ merged_OI.T
    scale = max(1.0, golden["output"].abs().max().item())
    return output.numel(), close("output", output, golden["output"], 1e-5 * scale)


def checkpoint_config(recorded: dict[str, dict]) -> LlavaConfig:
    """The configuration that recorded names and shapes are of; heads are as wide as in any CLIP (64) or Llama (128)."""

    def one(start: str, ending: str) -> dict:
        (facts,) = (facts for name, facts in recorded.items() if name.startswith(start) and name.endswith(ending))
        return facts

    vision, text = "vision_tower.", "language_model."
    fc1, patch = one(vision, "mlp.fc1.weight"), one(vision, "patch_embedding.weight")["shape"][-1]
    places, wide = one(vision, "position_embedding.weight")["shape"]
    gate, key = one(text, "mlp.gate_proj.weight"), one(text, "self_attn.k_proj.weight")
    vocabulary, hidden = one(text, "embed_tokens.weight")["shape"]
    return LlavaConfig(
        vision_config={
            "model_type": "clip_vision_model",
            "hidden_size": wide,
            "intermediate_size": fc1["shape"][0],
            "num_hidden_layers": fc1["count"],
            "num_attention_heads": wide // 64,
            "image_size": round((places - 1) ** 0.5) * patch,
            "patch_size": patch,
        },
        text_config={
            "model_type": "llama",
            "vocab_size": vocabulary,
            "hidden_size": hidden,
            "intermediate_size": gate["shape"][0],
            "num_hidden_layers": gate["count"],
            "num_attention_heads": hidden // 128,
            "num_key_value_heads": key["shape"][0] // 128,
        },
    )


def checkpoint_keys(path: Path) -> Result:
    recorded = json.loads(path.read_text(encoding="utf-8"))
    with torch.device("meta"):
        there = LlavaForConditionalGeneration(checkpoint_config(recorded)).state_dict()
    shapes = {name: list(value.shape) for name, value in there.items()}
    reached, compared = set(), 0
    for pattern, facts in recorded.items():
        for index in range(facts["count"]):
            name = pattern.replace("{i}", str(index))
            if ".lora_" in name:
                continue
            ours = there_name(stock_name(name), there)
            compared += equal(f"{name} as {ours}", shapes.get(ours), facts["shape"])
            reached.add(ours)
    assert reached == set(shapes), f"stock parameters without a released key: {sorted(set(shapes) - reached)}"
    return compared, 0.0


def options_of(listed: str) -> list[str]:
    """The options of a list "(A) ...", each of any number of lines."""
    options, rest = [], listed.removeprefix("(A) ")
    for letter in ascii_uppercase[1:]:
        option, found, rest = rest.partition(f"\n({letter}) ")
        options.append(option)
        if not found:
            break
    return options


def our_prompts(recorded: dict[str, str]) -> dict[str, str]:
    """Our prompts for the question that was asked in the recorded ones, with the official placeholder."""
    asked = re.search(r"Question: (.*)\nOptions:\n(.*) \nOnly", recorded["plain"], re.DOTALL)
    opened = re.search(r"Question: (.*) \n ASSISTANT", recorded["eval_videoqabench"], re.DOTALL)
    assert asked is not None, "the plain prompt holds no question"
    assert opened is not None, "the open prompt holds no question"
    options = options_of(asked[2])
    ours = {
        "eval_mvbench": multiple_choice(asked[1], options, "mvbench"),
        "prunevid_eval_videomme": multiple_choice(asked[1], options, "videomme"),
        "eval_videoqabench": open_ended(opened[1]),
    }
    return {name: prompt.replace("<video>", "<image>") for name, prompt in ours.items()}


def pllava_prompts(path: Path) -> Result:
    recorded = json.loads(path.read_text(encoding="utf-8"))
    return sum(equal(name, prompt, recorded[name]) for name, prompt in our_prompts(recorded).items()), 0.0


@cache
def llama_tokenizer() -> PreTrainedTokenizerFast:
    """The recorded vocabulary in the class that the loader uses."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "tokenizer.json").write_bytes(gzip.decompress(TOKENIZER.read_bytes()))
        return PreTrainedTokenizerFast.from_pretrained(folder)


def prompt_ids(path: Path) -> Result:
    recorded = json.loads(path.read_text(encoding="utf-8"))
    prompts = our_prompts(prompts_of(recorded, path.parent))
    return sum(
        equal(name, llama_tokenizer()(prompt).input_ids, recorded[name]) for name, prompt in prompts.items()
    ), 0.0


def prompts_of(recorded: dict[str, list[int]], folder: Path) -> dict[str, str]:
    """Recorded prompts of recorded ids, beside them by any name or in our copy: those of which the most ids agree."""
    beside = [content_of(path) for path in [*sorted(folder.glob("*.json")), TOKENIZER.parent / "prompts.json"]]
    return max(filter(values(str), beside), key=lambda held: agreeing(recorded, held))


def agreeing(recorded: dict[str, list[int]], prompts: dict[str, str]) -> int:
    return sum(llama_tokenizer()(prompts[name]).input_ids == ids for name, ids in recorded.items() if name in prompts)


FILES = {
    "frame_indices.json": Recording(lambda held: isinstance(held, list), segment_frames),
    "preprocess.safetensors": Recording(tensors(".pixel_values_every_21st"), pllava_preprocess),
    "projector.safetensors": Recording(tensors(".linear_1.weight"), projector),
    "lora.safetensors": Recording(tensors("lora_alpha"), lora),
    "checkpoint_keys.json": Recording(values(dict), checkpoint_keys),
    "prompts.json": Recording(values(str), pllava_prompts),
    "prompt_ids.json": Recording(values(list), prompt_ids),
}
CASES = {"pllava": by_content(FILES)}

"""Replay of what the official code feeds PLLaVA.

Shape suffixes: T frames, H height, W width, C channels, R raw patches, P pooled tokens, X and D widths, N prompt rows.
"""

import gzip
import json
import re
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import (
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerFast,
)

from sharpv.evaluation.frames import Segments
from sharpv.evaluation.model_pllava import pllava_pixels
from sharpv.evaluation.pllava_prompts import multiple_choice, open_ended
from sharpv.models.pllava import PooledProjector
from sharpv.models.pllava_checkpoint import merge_lora, stock_name

from .compare import Result, by_name, close, equal, there_name

TOKENIZER = Path(__file__).resolve().parents[1] / "golden" / "pllava" / "tokenizer.json.gz"


def segment_frames(path: Path) -> Result:
    compared = 0
    for case in json.loads(path.read_text()):
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


POOLING = {"spatial": (4, 12, 12), "temporal": (4, 12, 12), "uneven": (2, 10, 10)}


def projector(path: Path) -> Result:
    golden, difference, compared = load_file(path), 0.0, 0
    for case in sorted({key.split(".")[0] for key in golden}):
        states_TRX = golden[f"{case}.input"]
        side = round(states_TRX.shape[1] ** 0.5)
        for kind, dtype in (("output", torch.float32), ("output_bf16", torch.bfloat16)):
            stock = stock_projector(golden, case).to(dtype)
            with torch.inference_mode():
                ours_TPD = PooledProjector(stock, POOLING[case], (side, side))(states_TRX.to(dtype))
            theirs = golden[f"{case}.{kind}"]
            difference = max(difference, close(f"{case} {kind}", ours_TPD.flatten(0, 1)[None], theirs.to(dtype), 1e-6))
            compared += ours_TPD.shape[0] * ours_TPD.shape[1]
    return compared, difference


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
    return output.numel(), close("output", output, golden["output"], 2e-6)


def checkpoint_keys(path: Path) -> Result:
    recorded = json.loads(path.read_text())
    config = LlavaConfig(
        vision_config={
            "model_type": "clip_vision_model",
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "image_size": 336,
            "patch_size": 14,
        },
        text_config={"model_type": "llama", "vocab_size": 32064},
    )
    with torch.device("meta"):
        there = LlavaForConditionalGeneration(config).state_dict()
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


def our_prompts(recorded: dict[str, str]) -> dict[str, str]:
    """Our prompts for the question that was asked in the recorded ones, with the official placeholder."""
    asked = re.search(r"Question: (.*)\nOptions:\n(.*) \nOnly", recorded["plain"], re.DOTALL)
    opened = re.search(r"Question: (.*) \n ASSISTANT", recorded["eval_videoqabench"])
    assert asked is not None, "the plain prompt holds no question"
    assert opened is not None, "the open prompt holds no question"
    options = re.findall(r"\([A-G]\) (.*)", asked[2])
    ours = {
        "eval_mvbench": multiple_choice(asked[1], options, "mvbench"),
        "prunevid_eval_videomme": multiple_choice(asked[1], options, "videomme"),
        "eval_videoqabench": open_ended(opened[1]),
    }
    return {name: prompt.replace("<video>", "<image>") for name, prompt in ours.items()}


def pllava_prompts(path: Path) -> Result:
    recorded = json.loads(path.read_text())
    return sum(equal(name, prompt, recorded[name]) for name, prompt in our_prompts(recorded).items()), 0.0


@cache
def llama_tokenizer() -> PreTrainedTokenizerFast:
    """The recorded vocabulary in the class that the loader uses."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "tokenizer.json").write_bytes(gzip.decompress(TOKENIZER.read_bytes()))
        return PreTrainedTokenizerFast.from_pretrained(folder)


def prompt_ids(path: Path) -> Result:
    recorded = json.loads(path.read_text())
    prompts = our_prompts(json.loads((path.parent / "prompts.json").read_text()))
    return (
        sum(equal(name, llama_tokenizer()(prompt).input_ids, recorded[name]) for name, prompt in prompts.items()),
        0.0,
    )


FILES = {
    "frame_indices.json": segment_frames,
    "preprocess.safetensors": pllava_preprocess,
    "projector.safetensors": projector,
    "lora.safetensors": lora,
    "checkpoint_keys.json": checkpoint_keys,
    "prompts.json": pllava_prompts,
    "prompt_ids.json": prompt_ids,
}
CASES = {"pllava": by_name(FILES)}

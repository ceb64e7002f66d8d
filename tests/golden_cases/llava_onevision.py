"""Replay of what the official code feeds LLaVA-OneVision, and of how upstream scores answers.

Shape suffixes: T frames, H height, W width, C channels, R raw patches, P pooled tokens, X and D widths, N prompt rows.
"""

import hashlib
import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import (
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    Qwen2Config,
    SiglipVisionConfig,
)

from sharpv.benchmarks import upstream
from sharpv.metrics.timing import StageClock
from sharpv.models import adapter_for
from sharpv.models.llava_onevision.loader import siglip_pixels
from sharpv.runtime.attach import layer_hooks
from sharpv.runtime.decode import Greedy, generate
from sharpv.runtime.prompt import assemble, find_span
from sharpv.videos.frames import Evenly

from .compare import Recording, Result, by_content, close, equal, tensors, there_name

REPOSITORY = Path(__file__).resolve().parents[2]
OFFICIAL_VIDEO_ID = -200
PENALISED = "generated_rp"


def metadata(path: Path) -> dict[str, Any]:
    with safe_open(path, "pt") as file:
        return file.metadata() or {}


def even_frames(path: Path) -> Result:
    recorded = json.loads(path.read_text(encoding="utf-8"))["indices"]
    compared = sum(
        equal(f"{count} of {total}", Evenly(int(count)).indices(int(total)).tolist(), indices)
        for count, table in recorded.items()
        for total, indices in table.items()
    )
    return compared, 0.0


def siglip_preprocess(path: Path) -> Result:
    golden, recorded = load_file(path), json.loads(metadata(path)["frames"])
    compared, kept = 0, golden["rows_cols"]
    for name, facts in recorded.items():
        frame_HWC = blown_up(golden[f"{name}.tile"].numpy(), facts["height"], facts["width"], facts["k"])
        compared += equal(f"{name} frame", hashlib.sha256(frame_HWC.tobytes()).hexdigest(), facts["frame_sha256"])
        pixels_CHW = siglip_pixels(frame_HWC[None], 384)[0]
        for kind, values in (("f32", pixels_CHW), ("f16", pixels_CHW.half())):
            ours = hashlib.sha256(values.numpy().tobytes()).hexdigest()
            compared += equal(f"{name} {kind}", ours, facts[f"pixel_values_{kind}_sha256"])
        close(name, pixels_CHW[:, kept][:, :, kept], golden[f"{name}.pixel_values"], 0.0)
    return compared, 0.0


def blown_up(tile_HWC: np.ndarray, height: int, width: int, factor: int) -> np.ndarray:
    """The frame that a recorded tile stands for, by the rule in the recording's README."""
    if factor == 0:
        return tile_HWC
    y, x, c = np.ogrid[:height, :width, :3]
    return ((tile_HWC[y // factor, x // factor, c] + (7 * y + 13 * x + 29 * c) % 41) % 256).astype(np.uint8)


def packed(path: Path) -> Result:
    golden, recorded = load_file(path), metadata(path)
    compared, difference = 0, 0.0
    for case in sorted({name.split(".")[0] for name in golden}):
        facts = json.loads(recorded[case])
        part = {name.removeprefix(case + "."): value for name, value in golden.items() if name.startswith(case + ".")}
        adapter = adapter_for(tiny_onevision(facts, part))
        pixels_TCHW = part.get("pixel_values")
        if pixels_TCHW is None:
            pixels_TCHW = siglip_pixels(part["frames"].numpy(), facts["image_size"]).half().float()
        with torch.inference_mode():
            vision = adapter.encode(pixels_TCHW)
            rows_ND = torch.cat([vision.tokens_TPD.flatten(0, 1), vision.separator_D[None]])
            asked = part["prompt_ids"][0].tolist()
            at = asked.index(OFFICIAL_VIDEO_ID)
            places = [adapter.video_token_id] * len(rows_ND)
            ids_BN = torch.tensor([[*asked[:at], *places, *asked[at + 1 :]]])
            span = find_span(adapter, ids_BN)
            embeddings_BND = adapter.language_model.get_input_embeddings()(ids_BN).clone()
            span.write(embeddings_BND[0], vision.tokens_TPD, vision.separator_D)
        difference = max(
            difference,
            close(f"{case} features", rows_ND, part["video_features"], 1e-4),
            close(f"{case} embeddings", embeddings_BND, part["inputs_embeds"], 1e-4),
        )
        compared += len(rows_ND)
        if "logits_last_prefill" in part:
            compared += generated(adapter, embeddings_BND, span, part)
    return compared, difference


def tiny_onevision(facts: dict[str, Any], part: dict[str, torch.Tensor]) -> LlavaOnevisionForConditionalGeneration:
    """The stock model of a recorded case, with its weights; those not recorded are random and not read."""
    vision = SiglipVisionConfig(
        hidden_size=facts["vision_hidden"],
        intermediate_size=facts["vision_intermediate"],
        num_hidden_layers=facts["tower_layers_used"],
        num_attention_heads=facts["vision_heads"],
        image_size=facts["image_size"],
        patch_size=facts["patch_size"],
        layer_norm_eps=facts["layer_norm_eps"],
        hidden_act=facts["hidden_act"],
        vision_use_head=False,
    )
    text = Qwen2Config(
        vocab_size=facts["vocab"],
        hidden_size=facts["hidden"],
        intermediate_size=facts["lm_intermediate"],
        num_hidden_layers=facts["lm_layers"],
        num_attention_heads=facts["lm_heads"],
        num_key_value_heads=facts["lm_kv_heads"],
        rms_norm_eps=facts["rms_norm_eps"],
        rope_theta=facts["rope_theta"],
        tie_word_embeddings=False,
    )
    config = LlavaOnevisionConfig(
        vision_config=vision,
        text_config=text,
        vision_feature_layer=-1,
        image_token_id=facts["vocab"] - 2,
        video_token_id=facts["vocab"] - 1,
        tie_word_embeddings=False,
    )
    model = LlavaOnevisionForConditionalGeneration(config).eval()
    there = model.state_dict()
    weights = {name: part[f"weights.{official}"] for official, name in facts["key_map"].items()}
    weights = {there_name(name, there): value for name, value in weights.items()}
    report = model.load_state_dict(weights, strict=False)
    assert not report.unexpected_keys, f"unexpected weights {report.unexpected_keys}"
    absent = [name for name in report.missing_keys if "logits_last_prefill" in part and "rotary" not in name]
    assert not [name for name in absent if "post_layernorm" not in name], f"weights not recorded: {absent}"
    return model


def generated(adapter, embeddings_BND: torch.Tensor, span, part: dict[str, torch.Tensor]) -> int:
    """Greedy tokens of the lean decoder under each repetition penalty; the number compared."""
    depth, compared = len(adapter.language_model.layers), 0
    with torch.inference_mode(), layer_hooks(adapter) as hooks:
        fed = assemble(embeddings_BND, span, depth, None, 0)
        logits = adapter.model(inputs_embeds=embeddings_BND).logits[0, -1]
        close("logits", logits, part["logits_last_prefill"], 1e-4)
        for name in sorted(name for name in part if name.startswith(PENALISED)):
            wanted, penalty = part[name].flatten().tolist(), float(name.removeprefix(PENALISED))
            greedy = Greedy(len(wanted), frozenset(), penalty)
            ids, _ = generate(adapter, hooks, fed, None, greedy, StageClock(torch.device("cpu")))
            compared += equal(f"tokens at penalty {penalty}", ids, wanted)
    return compared


class TaskLoader(yaml.SafeLoader):
    """Task YAMLs as mappings, `!function` resolved to what it names."""


def _named(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> Callable:
    module, name = loader.construct_scalar(node).rsplit(".", 1)
    return getattr(import_module(module), name)


TaskLoader.add_constructor("!function", _named)


def task_of(name: str) -> dict[str, Any]:
    """One of our released tasks with its bases merged, as lmms-eval merges them."""
    folder = REPOSITORY / "tasks" / "released"
    path = next(p for p in (folder / f"{name}.yaml", folder / name) if p.exists())
    config = yaml.load(path.read_text(encoding="utf-8"), TaskLoader)
    return (task_of(config.pop("include")) if "include" in config else {}) | config


# Those of our tasks whose names are not upstream's behind `sharpv_`.
OURS = {
    "videomme": "sharpv_videomme_short",
    "nextqa_mc_test": "sharpv_nextqa",
    "activitynetqa": "sharpv_actnetqa",
}


def onevision_prompts(path: Path) -> Result:
    recorded = json.loads(path.read_text(encoding="utf-8"))["tasks"]
    model = yaml.safe_load((REPOSITORY / "configs" / "model" / "llava_ov_7b.yaml").read_text(encoding="utf-8"))
    compared = 0
    for upstream_name, facts in recorded.items():
        task = task_of(OURS.get(upstream_name, f"sharpv_{upstream_name}"))
        for row in facts["rows"]:
            text = task["doc_to_text"](row["doc"], task["lmms_eval_specific_kwargs"]["default"])
            compared += equal(f"{upstream_name} request", text, row["request_text"])
            prompt = model["prompt"].replace("{text}", text).replace("<video>", "<image>")
            compared += equal(f"{upstream_name} prompt", prompt, row["full_prompt"])
            official = row["model_generate_kwargs"]
            compared += equal("new tokens", task["generation_kwargs"]["max_new_tokens"], official["max_new_tokens"])
            compared += equal("sampling", task["generation_kwargs"]["do_sample"], official["do_sample"])
            stops = [word for rule in official["stopping_criteria"] for word in rule["keywords"]]
            assert set(stops) <= set(model["stop_tokens"]), f"{stops} do not all stop {model['stop_tokens']}"
            raw, stripped = row["wrapper_output_for_raw_text"]
            compared += equal("stripped", raw.strip(), stripped)
    return compared, 0.0


def answers(path: Path) -> Result:
    compared, difference = 0, 0.0
    for name, facts in json.loads(path.read_text(encoding="utf-8"))["tasks"].items():
        benchmark = name.removesuffix("_mc")
        for document in facts["docs"]:
            rows = [row for row in document["rows"] if not row.get("random_guess")]
            items, _ = upstream.score(benchmark, [document["doc"]] * len(rows), [row["output"] for row in rows])
            for row, item in zip(rows, items, strict=True):
                score = float(item["score"] if isinstance(item, dict) else item)
                compared += equal(f"{name} {row['output']!r}", score, row["score"])
    return compared, difference


def tasks_with(key: str) -> Callable[[Any], bool]:
    """Whether a JSON object's tasks have this key."""
    return lambda held: isinstance(held, dict) and any(key in facts for facts in held.get("tasks", {}).values())


FILES = {
    "frame_indices.json": Recording(lambda held: isinstance(held, dict) and "indices" in held, even_frames),
    "preprocess.safetensors": Recording(tensors("rows_cols"), siglip_preprocess),
    "vision_pack.safetensors": Recording(tensors(".prompt_ids"), packed),
    "prompts.json": Recording(tasks_with("rows"), onevision_prompts),
    "answers.json": Recording(tasks_with("docs"), answers),
}
CASES = {"llava_onevision": by_content(FILES)}

"""Qwen2.5-VL and Qwen3-VL: dense, pruned and cache-cut forwards of stock modules, replayed through the runtime."""

import json
from pathlib import Path

import numpy as np
import torch
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

from sharpv.models import adapter_for
from sharpv.models.clip import Clip
from sharpv.models.qwen_vl.adapter import QwenVL
from sharpv.models.qwen_vl.loader import frame_size, marks, times
from sharpv.pruners.base import MemoryPruner
from sharpv.pruners.view import KeepCache
from sharpv.runtime.attach import layer_hooks
from sharpv.runtime.decode import Greedy, generate
from sharpv.runtime.prompt import Span, assemble, find_span
from sharpv.tokens import Selection
from sharpv.videos.frames import EvenPairs, Sampled

from .recorded import Result, close, read, same

TOLERANCE = 2e-4
CLASSES = {
    "qwen2_5_vl": (Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration),
    "qwen3_vl": (Qwen3VLConfig, Qwen3VLForConditionalGeneration),
}


class DropAt(MemoryPruner):
    """Drops visual rows on entering one layer."""

    def __init__(self, index: int, kept_V: torch.Tensor):
        self.index, self.kept_V = index, kept_V

    def keep_rows(self, layer, site, state):
        return Selection(self.kept_V, positions="original") if layer.index == self.index else None


class CutFrom(MemoryPruner):
    """Cuts the visual KV of the layers from one on."""

    def __init__(self, first: int, kept_V: torch.Tensor, reencode: bool = False):
        self.first, self.kept_V, self.reencode = first, kept_V, reencode

    def keep_cache(self, layer, state):
        return {layer.index: KeepCache(self.kept_V, self.reencode)} if layer.index >= self.first else None


class Logits:
    """A clock that counts nothing, and the head's input rows through a hook: one row of logits a step."""

    def __init__(self, model):
        self.rows: list[torch.Tensor] = []
        self.handle = model.lm_head.register_forward_hook(lambda module, args, output: self.rows.append(output))

    def mark(self, stage: str) -> None:
        """Nothing is timed."""


def build(name: str, config: dict, weights: dict[str, torch.Tensor]):
    make_config, make_model = CLASSES[name]
    model = make_model._from_config(make_config.from_dict(config), attn_implementation="sdpa").float().eval()
    model.load_state_dict({key: value.float() for key, value in weights.items()}, strict=True)
    return model


@torch.inference_mode()
def replayed(path: Path) -> Result:
    """Every recorded forward of every case of a model's file."""
    golden, meta = read(path)
    config = json.loads(meta["config"])
    weights = {key.removeprefix("weights."): value for key, value in golden.items() if key.startswith("weights.")}
    model = build(config["model_type"], config, weights)
    adapter = adapter_for(model)
    compared, difference = 0, 0.0
    for case in json.loads(meta["cases"]):
        part = {key.removeprefix(case + "."): value for key, value in golden.items() if key.startswith(case + ".")}
        found, far = Case(adapter, part).compare()
        compared, difference = compared + found, max(difference, far)
    return compared, difference


class Case:
    """One recorded prompt with its video."""

    def __init__(self, adapter: QwenVL, golden: dict[str, torch.Tensor]):
        self.adapter, self.golden = adapter, golden
        shape = tuple(golden["video_grid_thw"][0].tolist())
        per_frame = float(golden["second_per_grid_ts"][0]) if "second_per_grid_ts" in golden else 1.0
        frames_TRX = golden["pixel_values_videos"].float().unflatten(0, (shape[0], -1))
        self.pixels = Clip(frames_TRX, tuple(range(shape[0])), grid=shape[1:], seconds_per_frame=per_frame)
        self.vision = adapter.encode(self.pixels)
        self.compared, self.difference = 0, 0.0

    def compare(self) -> Result:
        golden = self.golden
        self.close("video rows", self.vision.tokens_TPD.flatten(0, 1), golden["video_rows"])
        if "deepstack_rows" in golden:
            self.close("DeepStack rows", self.vision.levels_LND, golden["deepstack_rows"])
        self.adapter.positions_of_text = "stock"
        positions_3N = self.adapter.positions(golden["input_ids"], self.pixels)
        self.compared += same("positions", positions_3N, golden["position_ids"][:, 0])
        self.compared += same("visual rows", self.span(positions_3N).visual_V, golden["visual_index"])
        old_3N = golden["positions_457"][:, 0] if "positions_457" in golden else None
        for name in sorted(key.removesuffix(".logits") for key in golden if key.endswith(".logits")):
            used_3N = old_3N if "_457" in name else positions_3N
            self.run(name, self.span(used_3N))
        return self.compared, self.difference

    def span(self, positions_3N: torch.Tensor) -> Span:
        shape = (len(self.pixels), *self.vision.grid)
        return find_span(self.adapter, self.golden["input_ids"], shape, positions_3N, self.vision.levels_LND)

    def run(self, name: str, span: Span) -> None:
        """One recorded way through the model: its logits of the last prompt row and each step, and its tokens."""
        kind, _, mask = name.partition(".")
        kept_V = self.golden.get(f"removal.{mask}.keep")
        selection, memory, nothing_V = None, None, torch.zeros(0, dtype=torch.long)
        if kind.startswith("removal"):
            selection = Selection(kept_V, positions="original")
        elif kind.startswith("drop_at_"):
            memory = DropAt(int(kind.removeprefix("drop_at_")), kept_V)
        elif kind.startswith("kv_all_reencoded_"):
            memory = CutFrom(int(kind.removeprefix("kv_all_reencoded_")), nothing_V, reencode=True)
        elif kind.startswith("kv_all_"):
            memory = CutFrom(int(kind.removeprefix("kv_all_")), nothing_V)
        elif kind.startswith("kv_"):
            memory = CutFrom(int(kind.removeprefix("kv_")), kept_V)
        elif not kind.startswith("dense"):
            raise LookupError(f"no rule replays {name}")
        logits_SX, tokens = self.generated(span, selection, memory, len(self.golden[f"{name}.tokens"]))
        self.close(name, logits_SX, self.golden[f"{name}.logits"])
        self.compared += same(f"{name} tokens", torch.tensor(tokens), self.golden[f"{name}.tokens"])

    def generated(self, span: Span, selection, memory, steps: int) -> tuple[torch.Tensor, list[int]]:
        adapter = self.adapter
        embeddings_BND = adapter.language_model.get_input_embeddings()(self.golden["input_ids"]).clone()
        span.write(embeddings_BND[0], self.vision.tokens_TPD, None)
        fed = assemble(embeddings_BND, span, len(adapter.language_model.layers), selection, 0)
        logits = Logits(adapter.model)
        with logits.handle, layer_hooks(adapter) as hooks:
            tokens, _ = generate(adapter, hooks, fed, memory, Greedy(steps, frozenset()), logits)
        return torch.stack(logits.rows), tokens

    def close(self, name: str, ours: torch.Tensor, theirs: torch.Tensor) -> None:
        self.difference = max(self.difference, close(name, ours, theirs, TOLERANCE))
        self.compared += len(theirs)


def recorded(path: Path) -> Result:
    return frames_file(path) if path.suffix == ".json" else replayed(path)


def frames_file(path: Path) -> Result:
    """Frames, size, grid, time and prompt of each recorded video; where the official code fails, ours answers."""
    found = json.loads(path.read_text(encoding="utf-8"))
    compared, family = 0, path.parent.name
    for kind in ("cases", "simple", "chat"):
        for one in found.get(kind, []):
            if "error" not in one:
                compared += video(one, 32 if family == "qwen3_vl" else 28, kind == "simple")
    return compared, 0.0


def video(recorded: dict, factor: int, simple: bool) -> int:
    facts, asked = recorded["video"], recorded.get("video_kwargs", {})
    rate = asked.get("fps")
    count = asked.get("nframes", asked.get("max_frames", 32 if rate is None else EvenPairs.MOST))
    places = EvenPairs(count, fps=rate, twice=simple).indices(facts["total"], facts["fps"])
    compared = same("indices", torch.as_tensor(places), torch.tensor(recorded["indices"]))
    size = frame_size(facts["height"], facts["width"], len(places), factor, 200704, 1605632)
    compared += same("size", torch.tensor(size), torch.tensor(recorded["resized"]))
    frames, rows, columns = recorded["grid_thw"]
    patch = factor // 2
    compared += same(
        "grid",
        torch.tensor([-(-len(places) // 2), size[0] // patch, size[1] // patch]),
        torch.tensor(recorded["grid_thw"]),
    )
    empty = Sampled(np.zeros((0, 1, 1, 3), np.uint8), places.tolist(), 0, facts["total"], facts["fps"])
    seconds_T, per_frame = times(empty, 2, not simple)
    if "second_per_grid_ts" in recorded:
        close("seconds", torch.tensor(per_frame), torch.tensor(recorded["second_per_grid_ts"]), 1e-6)
    elif "text" in recorded:
        pads = f"<|vision_start|>[{rows * columns // 4} video_pad]<|vision_end|>"
        told = "".join(mark + pads for mark in marks(seconds_T))
        assert told in recorded["text"], f"{told} is not in {recorded['text']}"
    assert len(seconds_T) == frames
    return compared


CASES = {"qwen2_5_vl": recorded, "qwen3_vl": recorded}

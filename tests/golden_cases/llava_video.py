"""LLaVA-Video: official encoding, newline policies and answers, replayed through the adapter and the runtime."""

import json
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file

from sharpv.models.clip import Clip
from sharpv.models.llava_video.adapter import LlavaVideo
from sharpv.models.llava_video.checkpoint import load_llava_video
from sharpv.models.llava_video.loader import time_sentence
from sharpv.runtime.attach import layer_hooks
from sharpv.runtime.decode import Greedy, generate
from sharpv.runtime.prompt import Span, assemble, find_span
from sharpv.tokens import Selection
from sharpv.videos.frames import PerSecond

from .qwen_vl import Logits
from .recorded import Result, close, read, same

TOLERANCE = 1e-4
RULES = {"all": "keep", "occupied": "occupied", "frame": "frame", "vidcom2": "behind", "none": "withdraw"}
"""Ours for each recorded policy."""
OFFICIAL_VIDEO = -200


def loaded(facts: dict, weights: dict[str, torch.Tensor]) -> LlavaVideo:
    """The recorded weights in the released layout, through the loader."""
    tower = {
        "hidden_size": facts["dv"],
        "intermediate_size": 2 * facts["dv"],
        "num_attention_heads": 2,
        "image_size": facts["image"],
        "patch_size": facts["patch"],
    }
    vocabulary, width = weights["model.embed_tokens.weight"].shape
    config = {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": len(weights["model.layers.0.mlp.gate_proj.weight"]),
        "num_hidden_layers": facts["lm_layers"],
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1e6,
        "tie_word_embeddings": False,
        "mm_newline_position": "grid",
    }
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
        save_file({name: value.float().contiguous() for name, value in weights.items()}, folder / "model.safetensors")
        # The recording has no id for the video: the vocabulary's last stands for it, a row that is never read.
        model = load_llava_video(folder, vocabulary - 1, torch.float32, "sdpa", tower)
    return LlavaVideo(model)


@torch.inference_mode()
def packed(path: Path) -> Result:
    """Every case of the file: poolings, packed rows, dense answers, and every policy of every mask."""
    golden, meta = read(path)
    compared, difference = 0, 0.0
    for name, facts in json.loads(meta["cases"]).items():
        part = {key.removeprefix(name + "."): value for key, value in golden.items() if key.startswith(name + ".")}
        found, far = Case(facts, part).compare()
        compared, difference = compared + found, max(difference, far)
    return compared, difference


class Case:
    """One recorded model with its video and prompt."""

    def __init__(self, facts: dict, golden: dict[str, torch.Tensor]):
        self.golden, self.compared, self.difference = golden, 0, 0.0
        weights = {key.removeprefix("weights."): value for key, value in golden.items() if key.startswith("weights.")}
        self.adapter = loaded(facts, weights)
        self.pixels = Clip(golden["pixel_values"].float(), tuple(range(facts["T"])))

    def compare(self) -> Result:
        for pooling in ("average", "bilinear", "max"):
            if f"{pooling}.grid.video_features" in self.golden:
                self._encoding(pooling)
        self.adapter.pooling = "average"
        self._dense()
        for mask in sorted({key.split(".")[1] for key in self.golden if key.startswith("keep.")}):
            for policy in RULES:
                self._policy(mask, policy)
        return self.compared, self.difference

    def _close(self, name: str, ours: torch.Tensor, theirs: torch.Tensor) -> None:
        self.difference = max(self.difference, close(name, ours, theirs, TOLERANCE))
        self.compared += len(theirs)

    def _encoding(self, pooling: str) -> None:
        self.adapter.pooling = pooling  # type: ignore[assignment]
        vision = self.adapter.encode(self.pixels)
        if f"{pooling}.pooled" in self.golden:
            self._close(f"{pooling} pooled", vision.tokens_TPD, self.golden[f"{pooling}.pooled"])
        rows_ND = self.adapter.call(torch.zeros(1, 1), self.pixels)["mm_encoder_outputs"]["video"].pooler_output[0]
        self._close(f"{pooling} rows", rows_ND, self.golden[f"{pooling}.grid.video_features"])

    def _prompt(self) -> tuple[torch.Tensor, Span]:
        adapter, asked = self.adapter, self.golden["prompt_ids"][0].tolist()
        vision, at = adapter.encode(self.pixels), asked.index(OFFICIAL_VIDEO)
        video = [adapter.video_token_id] * adapter.arranged(len(self.pixels), vision.grid).rows
        ids_BN = torch.tensor([[*asked[:at], *video, *asked[at + 1 :]]])
        embeddings_BND = adapter.language_model.get_input_embeddings()(ids_BN).clone()
        span = find_span(adapter, ids_BN)
        span.write(embeddings_BND[0], vision.tokens_TPD, vision.separator_D)
        return embeddings_BND, span

    def _answer(self, fed, steps: int, penalty: float = 1.0) -> tuple[torch.Tensor, list[int]]:
        logits = Logits(self.adapter.model)
        with logits.handle, layer_hooks(self.adapter) as hooks:
            tokens, _ = generate(self.adapter, hooks, fed, None, Greedy(steps, frozenset(), penalty), logits)
        return torch.stack(logits.rows), tokens

    def _dense(self) -> None:
        embeddings_BND, span = self._prompt()
        self._close("embeddings", embeddings_BND[0], self.golden["average.grid.inputs_embeds"][0])
        fed = assemble(embeddings_BND, span, len(self.adapter.language_model.layers), None, 0)
        for penalty in (1.0, 1.05):
            wanted = self.golden[f"generated_rp{penalty}"]
            logits_SX, tokens = self._answer(fed, len(wanted), penalty)
            self.compared += same(f"dense tokens, penalty {penalty}", torch.tensor(tokens), wanted)
            if penalty == 1.0:
                self._close("last logits", logits_SX[0], self.golden["logits_last"])
                self._close("dense logits", logits_SX[:5], self.golden["dense.logits"])

    def _policy(self, mask: str, policy: str) -> None:
        embeddings_BND, span = self._prompt()
        depth = len(self.adapter.language_model.layers)
        for positions in ("contiguous", "original"):
            name = f"{mask}.{policy}.{positions}"
            if f"{name}.logits" not in self.golden:
                continue
            kept = Selection(self.golden[f"keep.{mask}"], positions=positions, separator=RULES[policy])
            fed = assemble(embeddings_BND, span, depth, kept, 0)
            rows, text = self.golden[f"{mask}.{policy}.rows"], span.length - (span.stop - span.start)
            self.compared += same(f"{name} length", torch.tensor(fed.layout.length), torch.tensor(len(rows) + text))
            tokens = self.golden[f"{name}.tokens"]
            logits_SX, found = self._answer(fed, len(tokens))
            self._close(f"{name} logits", logits_SX[:5], self.golden[f"{name}.logits"])
            self.compared += same(f"{name} tokens", torch.tensor(found), tokens)


def recorded(path: Path) -> Result:
    return frames_file(path) if path.suffix == ".json" else packed(path)


def frames_file(path: Path) -> Result:
    """Frames and time sentence of each recorded video, and the videos that cannot be sampled."""
    compared = 0
    for one in json.loads(path.read_text(encoding="utf-8"))["cases"]:
        total, fps = one["total"], one["fps"]
        sampling = PerSecond(one["max_frames"], always=one["force_sample"])
        if "error" in one:
            try:
                sampling.indices(total, fps)
            except ValueError:
                compared += 1
                continue
            raise AssertionError(f"{one} was sampled")
        places = sampling.indices(total, fps)
        compared += same("indices", torch.from_numpy(places), torch.tensor(one["indices"]))
        clip = Clip(torch.zeros(len(places), 1), tuple(sampling.seconds(total, fps).tolist()), total / fps)
        assert time_sentence(clip) == one["time_instruction"]
    return compared, 0.0


CASES = {"llava_video": recorded}

"""A VideoLLM ready to answer: weights, tokenizer, image processor, prompt and generation settings.

Shape suffixes: T frames, H height, W width, C channels, B batch (1), N prompt rows, D width.
"""

import difflib
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sharpv.checks import require_fields
from sharpv.paths import hub_snapshot
from sharpv.runtime.adapter import Adapter, Geometry, Vision
from sharpv.runtime.decode import Greedy
from sharpv.runtime.prompt import Span, find_span
from sharpv.videos.frames import Sampled, Sampling

VIDEO = "<video>"
"""What stands for the video in prompts, whatever the model's own token is called."""

DTYPES = ("float32", "float16", "bfloat16")
BACKENDS = ("auto", "sdpa", "flash_attention_2")
DECODERS = ("pyav", "pyav_from_start", "decord", "torchcodec")
ANSWERING = (".safetensors", ".json", ".model", ".txt", ".jinja")
"""Files of a checkpoint that can change an answer, by their ending."""


def of_frames(pixels: Callable[[np.ndarray], torch.Tensor]) -> Callable[[Sampled], torch.Tensor]:
    """The preprocessor of a family whose pixels (T, C, H, W) depend on the frames (T, H, W, C) alone."""
    return lambda sampled: pixels(sampled.frames_THWC)


@dataclass
class Loaded:
    """A loaded model with everything that turns a video and a text into a prompt.

    prompt: the whole prompt string, with `{text}` and, unless the task's text holds it, `<video>`. stop_ids: ids that
    end an answer. frames: which frames are taken. preprocessor: the family's way from frames to pixels. expand: the ids
    that stand for a video where they are not one video token a row. preface: what the prompt says of the video in
    front of the question.
    """

    name: str
    adapter: Adapter
    tokenizer: Any
    preprocessor: Callable[[Sampled], Any]
    frames: Sampling
    prompt: str
    repetition_penalty: float
    stop_ids: frozenset[int]
    weights_hash: str
    expand: Callable[[Geometry, Any], list[int]] | None = None
    preface: Callable[[Any], str] | None = None
    penalty_counts_prompt: bool = False

    @property
    def device(self) -> torch.device:
        return self.adapter.model.device

    def preprocess(self, sampled: Sampled) -> Any:
        """Frames to what the tower takes, on the host, in the weights' dtype; its length is the number of frames."""
        return self.preprocessor(sampled).to(self.adapter.model.dtype)

    def prompt_ids(self, text: str, geometry: Geometry, pixels: Any) -> torch.Tensor:
        """Ids of the dense prompt (1, N): tokenised with one video token, which then becomes the rows of the video.

        ValueError, which names the question, where the model has too few positions for them.
        """
        ids = self.tokenizer(self.full_prompt(text, pixels).replace(VIDEO, self.video_token, 1)).input_ids
        place = ids.index(self.adapter.video_token_id)
        expanded = [*ids[:place], *self.video_ids(geometry, pixels), *ids[place + 1 :]]
        positions = self.adapter.language_model.config.max_position_embeddings
        if len(expanded) > positions:
            raise ValueError(
                f"the question {text[:80]!r}... makes a prompt of {len(expanded)} tokens, {geometry.rows} of them the "
                f"video's; {self.name} has {positions} positions"
            )
        return torch.tensor([expanded], device=self.device)

    def video_ids(self, geometry: Geometry, pixels: Any) -> list[int]:
        """The ids that stand for a video in a prompt."""
        if self.expand is not None:
            return self.expand(geometry, pixels)
        return [self.adapter.video_token_id] * geometry.rows

    def full_prompt(self, text: str, pixels: Any) -> str:
        """The prompt as text, with one `<video>`; ValueError where task and question hold none or several."""
        if self.preface is not None:
            text = f"{self.preface(pixels)}\n{text}"
        prompt = self.prompt.replace("{text}", text)
        if prompt.count(VIDEO) != 1:
            raise ValueError(f"the prompt must hold {VIDEO} once, got {prompt.count(VIDEO)} in {prompt!r}")
        return prompt

    @property
    def video_token(self) -> str:
        return self.tokenizer.convert_ids_to_tokens(self.adapter.video_token_id)

    def embed(self, text: str, vision: Vision, pixels: Any) -> tuple[torch.Tensor, Span, str]:
        """Dense prompt embeddings (1, N, D), where the video lies in them, and the prompt as text."""
        frames, levels = len(vision.tokens_TPD), vision.levels_LND
        ids_BN = self.prompt_ids(text, self.adapter.arranged(frames, vision.grid), pixels)
        embeddings_BND = self.adapter.language_model.get_input_embeddings()(ids_BN).clone()
        positions_RN = self.adapter.positions(ids_BN, pixels)
        span = find_span(self.adapter, ids_BN, (frames, *vision.grid), positions_RN, levels)
        span.write(embeddings_BND[0], vision.tokens_TPD, vision.separator_D)
        return embeddings_BND, span, self.full_prompt(text, pixels)

    def greedy(self, max_new_tokens: int, prompt: str = "") -> Greedy:
        """How to generate; the prompt counts for the repetition penalty where the model's own wrapper hands it over."""
        seen: frozenset[int] = frozenset()
        if self.penalty_counts_prompt:
            seen = frozenset(self.tokenizer(prompt.replace(VIDEO, self.video_token, 1)).input_ids)
        return Greedy(max_new_tokens, self.stop_ids, self.repetition_penalty, seen)

    def decode(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=True).strip()


@dataclass
class ModelConfig:
    """What every model's configuration holds; the fields of configs/model/*.yaml.

    path: a folder, also with `~`, or a hub id. profile: which of the tasks' prompts it takes. dtype: of the weights.
    attn_implementation: `auto` = flash_attention_2 where installed on CUDA, else sdpa. device: `auto` = CUDA where
    there is one. decoder: of video files, pyav | pyav_from_start | decord | torchcodec. calibration: per-model
    thresholds that pruner configs refer to, from documented calibrations. ValueError naming the field whose value is
    wrong.
    """

    name: str
    path: str
    paper_name: str | None
    display: str
    frames: int
    prompt: str
    profile: str = "default"
    dtype: str = "float32"
    repetition_penalty: float = 1.0
    stop_tokens: list[str] = field(default_factory=lambda: ["<|im_end|>"])
    attn_implementation: str = "auto"
    device: str = "auto"
    decoder: str = "pyav"
    revision: str | None = None
    size_gb: float | None = None
    calibration: dict[str, float | dict[str, dict[str, dict[float, float]]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_fields(self)
        for name, allowed in (("dtype", DTYPES), ("attn_implementation", BACKENDS), ("decoder", DECODERS)):
            if (value := getattr(self, name)) not in allowed:
                near = difflib.get_close_matches(value.replace("bf", "bfloat").replace("fp", "float"), allowed, n=1)
                hint = f": did you mean {near[0]}?" if near else ""
                raise ValueError(f"model.{name}={value!r} is not one of {', '.join(allowed)}{hint}")
        if self.frames < 1 or self.repetition_penalty <= 0:
            raise ValueError(
                f"model.frames={self.frames} must be at least 1 and model.repetition_penalty="
                f"{self.repetition_penalty} above 0 (1 = none)"
            )
        if self.prompt.count("{text}") != 1:
            raise ValueError(f"model.prompt={self.prompt!r} must hold {{text}} once, where the question goes")
        if self.prompt.count(VIDEO) > 1 or (VIDEO not in self.prompt and self.profile == "default"):
            raise ValueError(f"model.prompt={self.prompt!r} must hold {VIDEO} once, where the video goes")
        if not self.stop_tokens:
            raise ValueError("model.stop_tokens is empty: no answer would end before its longest")
        self.path = str(Path(self.path).expanduser())
        self._device()

    def _device(self) -> torch.device:
        try:
            return torch.device(self.device if self.device != "auto" else "cpu")
        except RuntimeError as error:
            raise ValueError(f"model.device={self.device!r} is no device: take auto, cpu, cuda or cuda:0") from error

    def require_fit(self) -> None:
        """ValueError where this machine lacks the device or the tokenizer lacks a stop token; loads no weights.

        Passes where the checkpoint is not there, which is told elsewhere.
        """
        self.torch_device()
        try:
            file = self.folder() / "tokenizer.json"
        except ValueError:
            return
        if not file.is_file():
            return
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
            known = {*found["model"]["vocab"], *(token["content"] for token in found.get("added_tokens", ()))}
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{file} is no tokenizer ({type(error).__name__}: {error})") from error
        if unknown := [token for token in self.stop_tokens if token not in known]:
            raise ValueError(f"model.stop_tokens={list(self.stop_tokens)}: the tokenizer does not know {unknown}")

    def checkpoint_config(self) -> dict[str, Any]:
        """The checkpoint's config.json, empty where it is not there; ValueError naming the file where it is none."""
        try:
            file = self.folder() / "config.json"
        except ValueError:
            return {}
        if not file.is_file():
            return {}
        try:
            return dict(json.loads(file.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{file} is no configuration ({error})") from error

    @property
    def frames_of_tokens(self) -> int:
        """Frames that a method sees in a video long enough."""
        return self.frames

    def depth(self) -> int | None:
        """Layers of the decoder as the checkpoint says, None where it is not there."""
        config = self.checkpoint_config()
        layers = config.get("text_config", config).get("num_hidden_layers")
        return int(layers) if layers else None

    def torch_device(self) -> torch.device:
        """The device to load to; ValueError where this machine has none such."""
        if self.device != "auto":
            device = self._device()
            if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
                count = torch.cuda.device_count()
                raise ValueError(f"model.device={self.device}: this machine has {count} CUDA devices; take auto or cpu")
            return device
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def backend(self) -> str:
        """The attention implementation to load with."""
        from transformers.utils import is_flash_attn_2_available

        if self.attn_implementation != "auto":
            return self.attn_implementation
        on_gpu = self.torch_device().type == "cuda"
        return "flash_attention_2" if on_gpu and is_flash_attn_2_available() else "sdpa"

    def folder(self) -> Path:
        """Where the checkpoint lies: the folder itself, or the hub's local snapshot; ValueError where there is none."""
        if Path(self.path).is_dir():
            return Path(self.path)
        snapshot = hub_snapshot(self.path, "model", self.revision)
        if snapshot is None:
            raise ValueError(f"no weights of {self.display} on this machine: hf download {self.path}")
        return snapshot

    def weights_hash(self) -> str:
        """sha256 over the checkpoint's weights, configurations, tokenizer and chat template, by name and content; for a
        hub snapshot, its commit, which names them all."""
        folder = self.folder()
        if not Path(self.path).is_dir():
            return f"{self.path}@{folder.name}"
        digest = hashlib.sha256()
        for file in sorted(path for path in folder.iterdir() if path.suffix in ANSWERING):
            digest.update(file.name.encode())
            with file.open("rb") as content:
                digest.update(hashlib.file_digest(content, "sha256").digest())
        return digest.hexdigest()

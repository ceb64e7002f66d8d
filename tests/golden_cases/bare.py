"""A bare Llama or Qwen2 in the place of a VideoLLM: the file's embeddings stand for the encoded prompt."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from sharpv.runtime.adapter import Geometry, Shape
from sharpv.runtime.attach import attach

CLASSES = {"llama": (LlamaConfig, LlamaForCausalLM), "qwen2": (Qwen2Config, Qwen2ForCausalLM)}


@dataclass
class Bare:
    """Adapter of a stock causal language model whose prompt's embeddings (N, D) are given, the video's from `start`
    on."""

    model: nn.Module
    embeddings_ND: torch.Tensor
    start: int
    place: Geometry

    image_token_id = None
    video_token_id = 1

    @property
    def language_model(self) -> nn.Module:
        return self.model.model

    @property
    def input_ids(self) -> torch.Tensor:
        """Ids (1, N) that mark where the video lies; what they embed to is replaced."""
        ids_N = torch.zeros(len(self.embeddings_ND), dtype=torch.long)
        ids_N[self.start : self.start + self.place.rows] = self.video_token_id
        return ids_N[None]

    def geometry(self, rows: int, shape: Shape | None = None) -> Geometry:
        return self.place

    def shapes(self) -> AbstractContextManager[list[Shape]]:
        return nullcontext([])

    def encode(self, pixels_TCHW: torch.Tensor):
        raise ValueError("a bare language model has no vision tower")

    tap_tower = encode

    @contextmanager
    def feeding(self) -> Iterator[None]:
        """Prompts embed to the given rows for as long as the context lasts; single tokens embed as always."""

        def replace(module: nn.Module, args: tuple, output: torch.Tensor) -> torch.Tensor | None:
            return self.embeddings_ND[None].clone() if output.shape[1] > 1 else None

        handle = self.model.get_input_embeddings().register_forward_hook(replace)
        try:
            yield
        finally:
            handle.remove()


def build(family: str, config: dict, weights: dict[str, torch.Tensor]) -> nn.Module:
    """The stock model in float32 with SDPA, all weights strictly from the file."""
    make_config, make_model = CLASSES[family]
    theta = config.pop("rope_theta")
    model = make_model(make_config(**config, rope_parameters={"rope_type": "default", "rope_theta": theta}))
    model.load_state_dict(weights, strict=True)
    model.set_attn_implementation("sdpa")
    return model.eval()


def config_of(meta: dict[str, str], names: dict[str, str]) -> dict:
    """A configuration read from metadata under the names that a file uses for it."""
    kinds = {"rms_norm_eps": float, "rope_theta": float}
    return {ours: kinds.get(ours, int)(meta[theirs]) for ours, theirs in names.items()} | {"tie_word_embeddings": False}


@dataclass
class Run:
    """What a replayed generation left: logits of the prefill rows (N, X) and of each step (T, X), positions of the
    steps, rows cached per layer after each forward, the report and its state after each forward's last layer."""

    prefill_NX: torch.Tensor
    steps_TX: torch.Tensor
    positions_T: torch.Tensor
    cached_FL: torch.Tensor
    report: object
    reads: list


@torch.no_grad()
def replay(bare: Bare, visual, memory, tokens: list[int], observe=lambda state: None) -> Run:
    """Prefill and one forced decode step a token through the context manager; `observe(state)` is kept after each
    step."""
    positions: list[int] = []

    def note(module: nn.Module, args: tuple, kwargs: dict) -> None:
        positions.append(int(kwargs["position_ids"][0, -1]))

    handle = bare.language_model.layers[0].register_forward_pre_hook(note, with_kwargs=True)
    with handle, bare.feeding(), attach(bare, visual, memory) as report:
        outputs = [bare.model(input_ids=bare.input_ids, use_cache=True)]
        cache = outputs[0].past_key_values
        cached, reads = [[layer.stored_rows for layer in cache.layers]], []
        for token in tokens:
            outputs.append(bare.model(input_ids=torch.tensor([[token]]), past_key_values=cache, use_cache=True))
            cached.append([layer.stored_rows for layer in cache.layers])
            reads.append(observe(report.state))
    logits = [output.logits[0] for output in outputs]
    steps_TX = torch.cat(logits[1:]) if tokens else logits[0][:0]
    return Run(logits[0], steps_TX, torch.tensor(positions[1:]), torch.tensor(cached), report, reads)

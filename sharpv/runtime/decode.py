"""Lean greedy decoding of one prompt under a pruner, with stage boundaries that a timer can read.

Shape suffixes: B batch (1), L rows fed, D width, V vocabulary.
"""

import math
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from transformers.cache_utils import DynamicCache

from sharpv.pruners.base import MemoryPruner
from sharpv.runtime.adapter import Adapter
from sharpv.runtime.attach import LayerHooks
from sharpv.runtime.cache import PrunableLayer, cache_argument, make_prunable
from sharpv.runtime.prompt import FedPrompt
from sharpv.runtime.report import Report
from sharpv.runtime.session import Session


class Clock(Protocol):
    def mark(self, stage: str) -> None:
        """The stage of this name ends here."""
        ...


@dataclass(frozen=True)
class Greedy:
    """Greedy generation: stop ids, limit, and a repetition penalty (1.0 = off) on the generated tokens, and on those of
    the prompt that are in `penalised`."""

    max_new_tokens: int
    stop_ids: frozenset[int]
    repetition_penalty: float = 1.0
    penalised: frozenset[int] = frozenset()


def penalise(logits_V: torch.Tensor, before: list[int], penalty: float) -> torch.Tensor:
    """Divide positive and multiply negative logits of tokens seen before, as transformers does."""
    if penalty == 1.0 or not before:
        return logits_V
    seen = torch.tensor(sorted(set(before)), device=logits_V.device)
    scores = logits_V[seen]
    return logits_V.index_copy(0, seen, torch.where(scores < 0, scores * penalty, scores / penalty))


class NotFiniteError(ValueError):
    """The logits hold a NaN or an infinity, so that no token is the best; the message says where it came from."""


def where_not_finite(fed: FedPrompt, cache: list[PrunableLayer], dtype: torch.dtype) -> str:
    """Where the first number of a generation that is not finite arose, told by what each layer has cached."""
    if not bool(torch.isfinite(fed.embeddings_BLD).all()):
        video = not bool(torch.isfinite(fed.layout.fed_VD).all())
        place = "the vision tower's features" if video else "the embeddings of the prompt's text"
    else:
        finite = [bool(torch.isfinite(layer.keys).all() and torch.isfinite(layer.values).all()) for layer in cache]
        behind = "the last decoder layer or the head" if all(finite) else f"decoder layer {finite.index(False)}"
        place = f"{behind}, or what entered it" if not all(finite) else behind
    hint = "; its weights may overflow in float16, load them in bfloat16" if dtype == torch.float16 else ""
    return f"the logits are not finite (NaN or infinity); first seen in {place}, weights in {dtype}{hint}"


@torch.inference_mode()
def generate(
    adapter: Adapter,
    hooks: LayerHooks,
    fed: FedPrompt,
    memory: MemoryPruner | None,
    greedy: Greedy,
    clock: Clock,
    observe_cosine: bool = False,
) -> tuple[list[int], Report]:
    """Prefill and decode one prompt; the ids generated (stop id included) and what the pruner did.

    Gives the same tokens as `model.generate(inputs_embeds=...)`. Marks the stages `prefill`, `first_token` and, after
    each further token, `decode` (once where there was none). NotFiniteError where the logits hold a NaN or an infinity.
    """
    language, report = adapter.language_model, Report()
    cache = DynamicCache(config=language.config)
    prunable = make_prunable(cache, len(language.layers))
    layers, rotary = language.layers, language.rotary_emb
    session = Session(layers, rotary, memory, fed.layout, prunable, report, observe_cosine, fed.levels)
    cached: dict[str, Any] = {cache_argument(language): cache, "use_cache": True}
    hooks.session = session
    head, embed = adapter.model.get_output_embeddings(), language.get_input_embeddings()
    try:
        states = language(inputs_embeds=fed.embeddings_BLD, position_ids=fed.positions, **cached).last_hidden_state
        session.finish_forward()
        clock.mark("prefill")
        generated: list[int] = []
        position = fed.next_position
        while True:
            logits_V = penalise(head(states[0, -1]).float(), [*greedy.penalised, *generated], greedy.repetition_penalty)
            best_token = logits_V.argmax()
            # One transfer tells both: which token is best, and whether the logits can say so.
            best, value = torch.stack([best_token.double(), logits_V[best_token].double()]).tolist()
            if not math.isfinite(value):
                raise NotFiniteError(where_not_finite(fed, prunable, adapter.model.dtype))
            generated.append(int(best))
            clock.mark("decode" if len(generated) > 1 else "first_token")
            if generated[-1] in greedy.stop_ids or len(generated) >= greedy.max_new_tokens:
                break
            new_id = torch.tensor([[generated[-1]]], device=states.device)
            position_11 = torch.as_tensor(position, device=states.device).reshape(1, 1)
            states = language(inputs_embeds=embed(new_id), position_ids=position_11, **cached).last_hidden_state
            session.finish_forward()
            position = position + 1
        if len(generated) == 1:
            clock.mark("decode")
    finally:
        hooks.session = None
    return generated, report

"""Lean greedy decoding of one prompt under a pruner, with stage boundaries that a timer can read.

Shape suffixes: B batch (1), L rows fed, D width, V vocabulary.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from transformers.cache_utils import DynamicCache

from sharpv.pruners.base import MemoryPruner
from sharpv.runtime.adapter import Adapter
from sharpv.runtime.attach import LayerHooks
from sharpv.runtime.cache import make_prunable
from sharpv.runtime.prompt import FedPrompt
from sharpv.runtime.session import Report, Session


class Clock(Protocol):
    def mark(self, stage: str) -> None:
        """The stage of this name ends here."""
        ...


@dataclass(frozen=True)
class Greedy:
    """Greedy generation: stop ids, limit, and a repetition penalty on the generated tokens only (1.0 = off)."""

    max_new_tokens: int
    stop_ids: frozenset[int]
    repetition_penalty: float = 1.0


def penalise(logits_V: torch.Tensor, generated: list[int], penalty: float) -> torch.Tensor:
    """Divide positive and multiply negative logits of tokens already generated, as transformers does."""
    if penalty == 1.0 or not generated:
        return logits_V
    seen = torch.tensor(sorted(set(generated)), device=logits_V.device)
    scores = logits_V[seen]
    return logits_V.index_copy(0, seen, torch.where(scores < 0, scores * penalty, scores / penalty))


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
    each further token, `decode` (once where there was none).
    """
    language, report = adapter.language_model, Report()
    cache = DynamicCache(config=language.config)
    prunable = make_prunable(cache, len(language.layers))
    session = Session(language.layers, language.rotary_emb, memory, fed.layout, prunable, report, observe_cosine)
    hooks.session = session
    head, embed = adapter.model.get_output_embeddings(), language.get_input_embeddings()
    try:
        states = language(
            inputs_embeds=fed.embeddings_BLD, position_ids=fed.positions_BL, past_key_values=cache, use_cache=True
        ).last_hidden_state
        session.finish_forward()
        clock.mark("prefill")
        generated: list[int] = []
        position = fed.next_position
        while True:
            logits_V = penalise(head(states[0, -1]).float(), generated, greedy.repetition_penalty)
            generated.append(int(logits_V.argmax()))
            clock.mark("decode" if len(generated) > 1 else "first_token")
            if generated[-1] in greedy.stop_ids or len(generated) >= greedy.max_new_tokens:
                break
            new_id = torch.tensor([[generated[-1]]], device=states.device)
            states = language(
                inputs_embeds=embed(new_id),
                position_ids=torch.tensor([[position]], device=states.device),
                past_key_values=cache,
                use_cache=True,
            ).last_hidden_state
            session.finish_forward()
            position += 1
        if len(generated) == 1:
            clock.mark("decode")
    finally:
        hooks.session = None
    return generated, report

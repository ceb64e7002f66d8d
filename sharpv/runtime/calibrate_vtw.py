"""The choice of VTW's layer from unlabelled prompts: the first at which losing the video hardly changes the next token.

Shape suffixes: S samples, C candidate layers, B batch, N prompt rows, M text rows, D width, X vocabulary.
"""

from typing import Any

import torch

from sharpv.runtime.adapter import Adapter
from sharpv.runtime.attach import layer_hooks
from sharpv.runtime.prompt import find_span


def choose_layer(divergence_SC: torch.Tensor, bound: float, first: int = 5) -> int:
    """The first layer whose mean divergence is at most `bound` (eta, nats), even if a later one exceeds it again.

    divergence_SC: of each sample and candidate, float32; candidate c is layer first + c. ValueError where no layer is
    under the bound.
    """
    mean_C = divergence_SC.mean(0).tolist()
    under = [first + c for c, mean in enumerate(mean_C) if mean <= bound]
    if not under:
        raise ValueError(
            f"no layer from {first} on is under {bound}: the smallest mean divergence is {min(mean_C):.2e}; raise it"
        )
    return under[0]


def divergence(withdrawn_CX: torch.Tensor, full_X: torch.Tensor) -> torch.Tensor:
    """KL(withdrawn || full) of the next-token distributions, nats, float32 (C,), low = the video is no longer
    needed."""
    withdrawn_CX, full_X = withdrawn_CX.float().log_softmax(-1), full_X.float().log_softmax(-1)
    return (withdrawn_CX.exp() * (withdrawn_CX - full_X)).sum(-1)


@torch.no_grad()
def withdrawal_divergence(
    adapter: Adapter, inputs: dict[str, Any], first: int = 5, separator: str = "withdraw"
) -> torch.Tensor:
    """Divergence of one prompt's next token for a withdrawal at each layer from `first` on, float32 (C,).

    inputs: keyword arguments of a model call with `input_ids` and pixels. separator: VTW's. One full pass, then only
    text rows are run again, all candidates together. ValueError for a first layer that is none.

    Against the authors' calibration (lzhxmu/VTW): the same candidates, direction and rule, but the prompt's real video
    rows instead of fixed ones, probabilities in float32, and text-only tails instead of a whole prefill for each
    candidate.
    """
    language = adapter.language_model
    if not 1 <= first < len(language.layers):
        raise ValueError(f"first={first} must be a layer from 1 to {len(language.layers) - 1}")
    span = find_span(adapter, inputs["input_ids"])
    stays_N = torch.ones(span.length, dtype=torch.bool, device=inputs["input_ids"].device)
    stays_N[span.visual_V] = False
    if separator == "withdraw":
        stays_N[span.separator_S] = False
    recorder = TextRecorder(first, stays_N.nonzero().flatten())
    with layer_hooks(adapter) as hooks:
        hooks.session = recorder
        full_X = adapter.model(**inputs, use_cache=False).logits[0, -1]
    tails_CMD = recorder.entering_MD[0][None][:0]
    for layer, text_MD in zip(language.layers[first:], recorder.entering_MD, strict=True):
        tails_CMD = torch.cat([tails_CMD, text_MD[None]])
        tails_CMD = layer(tails_CMD, position_embeddings=recorder.rotary, attention_mask=None)
    withdrawn_CX = adapter.model.get_output_embeddings()(language.norm(tails_CMD[:, -1]))
    return divergence(withdrawn_CX, full_X)


class TextRecorder:
    """Stands in for a session: keeps the text rows entering each layer from `first` on, and changes nothing."""

    def __init__(self, first: int, text_M: torch.Tensor):
        self.first, self.text_M = first, text_M
        self.entering_MD: list[torch.Tensor] = []
        self.rotary: tuple[torch.Tensor, torch.Tensor] | None = None

    def enter(self, index: int, hidden_BND: torch.Tensor, call: dict[str, Any]) -> torch.Tensor:
        if index >= self.first:
            self.entering_MD.append(hidden_BND[0, self.text_M])
            self.rotary = tuple(part[:, self.text_M] for part in call["position_embeddings"])
        return hidden_BND

    def attended(self, index: int, residual_BND: torch.Tensor) -> None:
        """Nothing happens between attention and MLP."""

    def leave(self, index: int, hidden_BND: torch.Tensor) -> torch.Tensor:
        return hidden_BND

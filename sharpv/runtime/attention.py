"""Single rows of a layer's attention, recomputed beside SDPA or FlashAttention.

Shape suffixes: N rows (keys), Q query rows, D width, H query heads, G key-value heads, E head width.
"""

from typing import Any

import torch


def rotate(states_HNE: torch.Tensor, cos_NE: torch.Tensor, sin_NE: torch.Tensor) -> torch.Tensor:
    """Rotary embedding of (heads, rows, head width) states."""
    half = states_HNE.shape[-1] // 2
    turned_HNE = torch.cat((-states_HNE[..., half:], states_HNE[..., :half]), dim=-1)
    return states_HNE * cos_NE + turned_HNE * sin_NE


def _project(attention: Any, part: str, rows_ND: torch.Tensor) -> torch.Tensor:
    """Queries (`q`) or keys (`k`) before rotation, (heads, N, E), normed per head where the model does that."""
    states_NHE = getattr(attention, f"{part}_proj")(rows_ND).unflatten(-1, (-1, attention.head_dim))
    norm = getattr(attention, f"{part}_norm", None)
    return (states_NHE if norm is None else norm(states_NHE)).transpose(0, 1)


def attention_rows(
    layer: Any,
    hidden_ND: torch.Tensor,
    queries: torch.Tensor | list[int],
    cos_NE: torch.Tensor,
    sin_NE: torch.Tensor,
    rotary: bool = True,
    causal: bool = True,
) -> torch.Tensor:
    """Attention probabilities of some query rows of a decoder layer over ALL rows, float32 (H, Q, N).

    hidden_ND: states entering the layer. queries: row indices, negative counts from the end. Costs O(H Q N E) beside
    one key projection; the N x N matrix is never formed. rotary=False leaves positions out, causal=False lets a query
    see later rows (PruneVid wants both). Softmax is over all keys, never renormalised over the visual part.
    """
    attention: Any = layer.self_attn
    index_Q = torch.as_tensor(queries, device=hidden_ND.device) % len(hidden_ND)
    normed_ND = layer.input_layernorm(hidden_ND)
    queries_HQE = _project(attention, "q", normed_ND[index_Q])
    keys_GNE = _project(attention, "k", normed_ND)
    if rotary:
        queries_HQE = rotate(queries_HQE, cos_NE[index_Q], sin_NE[index_Q])
        keys_GNE = rotate(keys_GNE, cos_NE, sin_NE)
    return _softmax_rows(queries_HQE, keys_GNE, attention.scaling, index_Q if causal else None)


def attention_row_decode(
    layer: Any,
    hidden_1D: torch.Tensor,
    cached_keys_GNE: torch.Tensor,
    cos_1E: torch.Tensor,
    sin_1E: torch.Tensor,
) -> torch.Tensor:
    """The new row's attention probabilities over cached rows and itself, float32 (H, 1, N + 1)."""
    attention: Any = layer.self_attn
    normed_1D = layer.input_layernorm(hidden_1D)
    query_H1E = rotate(_project(attention, "q", normed_1D), cos_1E, sin_1E)
    key_G1E = rotate(_project(attention, "k", normed_1D), cos_1E, sin_1E)
    return _softmax_rows(query_H1E, torch.cat([cached_keys_GNE, key_G1E], dim=1), attention.scaling, None)


def _softmax_rows(queries_HQE, keys_GNE, scaling: float, causal_Q: torch.Tensor | None) -> torch.Tensor:
    groups = len(keys_GNE)
    grouped_GrQE = queries_HQE.float().unflatten(0, (groups, -1))
    logits_HQN = (grouped_GrQE @ keys_GNE.float()[:, None].transpose(-1, -2)).flatten(0, 1) * scaling
    if causal_Q is not None:
        later_QN = torch.arange(keys_GNE.shape[1], device=causal_Q.device) > causal_Q[:, None]
        logits_HQN = logits_HQN.masked_fill(later_QN, -torch.inf)
    return logits_HQN.softmax(-1)

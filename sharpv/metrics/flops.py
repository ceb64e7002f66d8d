"""Floating-point operations of a forward pass, from the configuration alone.

Two counts stand side by side: `eq5` is FastV's Eq. 5 (what the SharpV paper's dense 41.4 is), `exact` counts two per
multiply-add of what a stock model computes: grouped query heads, three feed-forward matrices, causal attention, the
LM head on one row.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class LanguageShape:
    """Sizes of a decoder; width is the d and feed_forward the m of the formulas."""

    width: int
    feed_forward: int
    depth: int
    heads: int
    kv_heads: int
    head_width: int
    vocabulary: int

    @classmethod
    def of(cls, config: Any) -> "LanguageShape":
        """From a transformers text config."""
        heads = config.num_attention_heads
        return cls(
            config.hidden_size,
            config.intermediate_size,
            config.num_hidden_layers,
            heads,
            config.num_key_value_heads,
            getattr(config, "head_dim", None) or config.hidden_size // heads,
            config.vocab_size,
        )


def eq5_prefill(shape: LanguageShape, rows: list[int]) -> float:
    """Sum over layers of 4 n d^2 + 2 n^2 d + 2 n d m with each layer's own row count n."""
    d, m = shape.width, shape.feed_forward
    return float(sum(4 * n * d * d + 2 * n * n * d + 2 * n * d * m for n in rows))


def _layer_exact(shape: LanguageShape, attention_rows: int, pairs: float, mlp_rows: int) -> float:
    query, kv = shape.heads * shape.head_width, shape.kv_heads * shape.head_width
    projections = 2 * attention_rows * shape.width * (2 * query + 2 * kv)
    attention = 2 * 2 * pairs * query
    return projections + attention + 2 * 3 * mlp_rows * shape.width * shape.feed_forward


def exact_prefill(shape: LanguageShape, rows: list[int], mlp_rows: list[int] | None = None) -> float:
    """Prefill with each layer's own rows; `mlp_rows` where the feed-forward sees another number. LM head on one row."""
    mlp_rows = mlp_rows or rows
    layers = sum(_layer_exact(shape, n, n * (n + 1) / 2, m) for n, m in zip(rows, mlp_rows, strict=True))
    return float(layers + 2 * shape.width * shape.vocabulary)


def exact_decode(shape: LanguageShape, read_rows: list[int]) -> float:
    """One decode step; `read_rows` are the cached rows that each layer reads, the new one not counted."""
    layers = sum(_layer_exact(shape, 1, n + 1, 1) for n in read_rows)
    return float(layers + 2 * shape.width * shape.vocabulary)


def exact_vision(config: Any, frames: int, language_width: int) -> float:
    """SigLIP or CLIP tower, two-layer projector on every patch; pooling left out (below 0.01%)."""
    patches = (config.image_size // config.patch_size) ** 2
    rows = patches + (1 if config.model_type == "clip_vision_model" else 0)
    d, m = config.hidden_size, config.intermediate_size
    patch = 2 * patches * 3 * config.patch_size**2 * d
    layer = 2 * rows * 4 * d * d + 4 * rows * rows * d + 4 * rows * d * m
    projector = 2 * patches * (d * language_width + language_width * language_width)
    return float(frames * (patch + config.num_hidden_layers * layer + projector))

"""Floating-point operations of a run, from the model's configuration alone: no weights, no device.

Two counts stand side by side: `eq5` is FastV's Eq. 5 (what the SharpV paper's dense 41.4 is), `exact` counts two per
multiply-add of what a stock model computes: grouped query heads, three feed-forward matrices, causal attention, the
LM head on one row. `exact` equals a counter on the real modules, once the half of the attention square that causality
leaves out is put back (counters do not see it): `causal=False`.
"""

import math
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

    def kv_bytes(self, rows: list[int], element_size: int) -> int:
        """Bytes of a KV cache that holds these rows, layer by layer."""
        return 2 * sum(rows) * self.kv_heads * self.head_width * element_size


@dataclass(frozen=True)
class StageFlops:
    """Exact operations of one answer: `vision` with projector, `prefill` by layer, `head` once, `decode` by step."""

    vision: float
    prefill: list[float]
    head: float
    decode: list[float]

    @property
    def first_token(self) -> float:
        """All up to the first token."""
        return self.vision + sum(self.prefill) + self.head


def stage_flops(
    config: Any, frames: int, rows: list[int], reads: list[list[int]], grid: tuple[int, int] | None = None
) -> StageFlops:
    """Per stage for any model config with a `vision_config` and a `text_config`.

    frames: that the tower encodes. rows: computed by each layer in prefill. reads: per decode step, cached rows that
    each layer reads, the new one not counted. grid: tokens of a frame, see `exact_vision`.
    """
    shape = LanguageShape.of(config.text_config)
    return StageFlops(
        exact_vision(config.vision_config, frames, shape.width, grid),
        exact_layers(shape, rows),
        _head(shape),
        [exact_decode(shape, step) for step in reads],
    )


def eq5_layers(shape: LanguageShape, rows: list[int]) -> list[float]:
    """Per layer 4 n d^2 + 2 n^2 d + 2 n d m with the layer's own row count n."""
    d, m = shape.width, shape.feed_forward
    return [float(4 * n * d * d + 2 * n * n * d + 2 * n * d * m) for n in rows]


def eq5_prefill(shape: LanguageShape, rows: list[int]) -> float:
    """Sum of `eq5_layers`."""
    return sum(eq5_layers(shape, rows))


def exact_layers(
    shape: LanguageShape, rows: list[int], mlp_rows: list[int] | None = None, causal: bool = True
) -> list[float]:
    """Prefill per layer with the layer's own rows; `mlp_rows` where the feed-forward sees another number."""
    return [
        _layer(shape, n, n * (n + 1) / 2 if causal else n * n, m) for n, m in zip(rows, mlp_rows or rows, strict=True)
    ]


def exact_prefill(
    shape: LanguageShape, rows: list[int], mlp_rows: list[int] | None = None, causal: bool = True
) -> float:
    """Sum of `exact_layers` and the LM head on one row."""
    return sum(exact_layers(shape, rows, mlp_rows, causal)) + _head(shape)


def exact_decode(shape: LanguageShape, read_rows: list[int]) -> float:
    """One decode step; `read_rows` are the cached rows that each layer reads, the new one not counted."""
    return sum(_layer(shape, 1, n + 1, 1) for n in read_rows) + _head(shape)


def exact_vision(config: Any, frames: int, language_width: int, grid: tuple[int, int] | None = None) -> float:
    """Of a tower with what stands between it and the decoder. grid: tokens of a frame, for Qwen and InternVL, whose
    tower's configuration does not tell how many patches a token is made of."""
    if hasattr(config, "spatial_merge_size"):
        assert grid is not None
        return _qwen_vision(config, frames, grid)
    cell = 1
    if config.model_type == "internvl_vision":
        assert grid is not None
        cell = math.prod(patch_grid(config)) // math.prod(grid)
    return _whole_frame_vision(config, frames, language_width, cell)


def patch_grid(config: Any) -> tuple[int, int]:
    """Rows and columns of the patches of a tower whose pictures are all of one size."""
    (height, width), (patch_height, patch_width) = both_sides(config.image_size), both_sides(config.patch_size)
    return height // patch_height, width // patch_width


def both_sides(size: Any) -> tuple[int, int]:
    """Height and width, where a configuration may give one number for both."""
    return (size[0], size[1]) if isinstance(size, list | tuple) else (size, size)


def _whole_frame_vision(config: Any, frames: int, language_width: int, cell: int) -> float:
    """SigLIP, CLIP or InternVL's tower, and a two-layer projector on every `cell` patches side by side; pooling left
    out (below 0.01%)."""
    patches = math.prod(patch_grid(config))
    rows = patches + (1 if config.model_type in ("clip_vision_model", "internvl_vision") else 0)
    d, m = config.hidden_size, config.intermediate_size
    patch = 2 * patches * config.num_channels * math.prod(both_sides(config.patch_size)) * d
    layer = 2 * rows * 4 * d * d + 4 * rows * rows * d + 4 * rows * d * m
    projector = 2 * patches // cell * (cell * d * language_width + language_width * language_width)
    return float(frames * (patch + config.num_hidden_layers * layer + projector))


def _qwen_vision(config: Any, frames: int, grid: tuple[int, int]) -> float:
    """Qwen's tower over temporal patches: full attention within each, or within windows where the tower has them; the
    mergers, DeepStack's among them."""
    cell, d, m = config.spatial_merge_size**2, config.hidden_size, config.intermediate_size
    tokens = grid[0] * grid[1]
    patches, merged = tokens * cell, cell * d
    pairs, full = [patches**2] * config.depth, getattr(config, "fullatt_block_indexes", None)
    if full is not None:
        side = config.window_size // config.spatial_merge_size // config.patch_size
        rows, columns = ([min(side, total - at) for at in range(0, total, side)] for total in grid)
        within = sum((cell * row * column) ** 2 for row in rows for column in columns)
        pairs = [patches**2 if index in full else within for index in range(config.depth)]
    matrices = 2 if full is None else 3
    embedding = 2 * patches * config.in_channels * config.temporal_patch_size * config.patch_size**2 * d
    layers = config.depth * (8 * patches * d * d + 2 * matrices * patches * d * m) + 4 * d * sum(pairs)
    mergers = 1 + len(getattr(config, "deepstack_visual_indexes", ()))
    out = config.out_hidden_size
    return float(frames * (embedding + layers + mergers * 2 * tokens * merged * (merged + out)))


def _layer(shape: LanguageShape, attention_rows: int, pairs: float, mlp_rows: int) -> float:
    query, kv = shape.heads * shape.head_width, shape.kv_heads * shape.head_width
    projections = 2 * attention_rows * shape.width * (2 * query + 2 * kv)
    attention = 2 * 2 * pairs * query
    return float(projections + attention + 2 * 3 * mlp_rows * shape.width * shape.feed_forward)


def _head(shape: LanguageShape) -> float:
    return float(2 * shape.width * shape.vocabulary)

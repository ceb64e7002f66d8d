"""One layer, or a layout, of a prompt without a model, for methods that act inside the language model.

Shape suffixes: H heads, Q query rows, N rows, V visual rows, D width, K kept rows.
"""

from dataclasses import replace

import torch

from sharpv.pruners.base import MemoryPruner
from sharpv.pruners.view import Layer, Layout
from sharpv.tokens import Selection

from .recorded import same

LOGITS = 1e-4
SHORT_NAMES = {
    "vocab_size": "vocab",
    "hidden_size": "hidden",
    "intermediate_size": "intermediate",
    "num_hidden_layers": "layers",
    "num_attention_heads": "heads",
    "num_key_value_heads": "kv_heads",
    "rms_norm_eps": "rms_norm_eps",
    "rope_theta": "rope_theta",
}


def layout_of(
    length: int, start: int, visual: int, depth: int, patch_V: torch.Tensor | None = None, group_K=None
) -> Layout:
    """A prompt without a model; one frame in raster order unless places are given."""
    index_V = torch.arange(visual)
    selection = None if group_K is None else Selection(index_V, group_K=group_K)
    patch_V = index_V if patch_V is None else patch_V
    frame_V, fed_VD = torch.zeros(visual, dtype=torch.long), torch.zeros(visual, 1)
    places_V, behind = start + index_V, length - start - visual
    grid = (1, visual)
    return Layout(
        length,
        start,
        visual,
        visual,
        depth,
        1,
        grid,
        fed_VD,
        frame_V,
        patch_V,
        places_V,
        index_V[:0],
        behind,
        selection=selection,
    )


def view(layout: Layout, index: int, hidden_ND=None, rows_HQN=None, alive_V=None, step: int = 0) -> Layer:
    """One layer's view whose attention rows are those of the file."""
    alive_V = torch.arange(layout.visual) if alive_V is None else alive_V
    span = slice(layout.start, layout.start + len(alive_V))
    hidden_ND = torch.zeros(layout.length, 1) if hidden_ND is None else hidden_ND

    def rows(queries, rotary: bool = True, causal: bool = True) -> torch.Tensor:
        return rows_HQN[:, queries]

    return Layer(index, layout.depth, step, layout, hidden_ND, alive_V, span, rows)


def sequence(layout: Layout, kept_V: torch.Tensor, rows: int | None = None) -> torch.Tensor:
    """Places in the prompt of all text rows and of the visual rows kept."""
    tail_N = torch.arange(layout.stop, rows or layout.length)
    return torch.cat([torch.arange(layout.start), layout.start + kept_V, tail_N])


def selections_of(memory: MemoryPruner) -> list[tuple[str, Layer, Selection | None]]:
    """A list that fills with what `keep_rows` is shown and returns in a run."""
    calls, keep_rows = [], memory.keep_rows

    def recorded(layer, site, state):
        seen = replace(layer, hidden_ND=layer.hidden_ND.clone())
        selection = keep_rows(layer, site, state)
        calls.append((site, seen, selection))
        return selection

    memory.keep_rows = recorded
    return calls


def weights_of(golden: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): value for name, value in golden.items() if name.startswith(prefix)}


def cached_rows(run, golden: dict[str, torch.Tensor]) -> int:
    layout = run.report.layout
    computed_L = torch.tensor(run.report.visual_rows) + layout.length - layout.visual
    compared = same("layer_seq_len", computed_L, golden["layer_seq_len"])
    compared += same("kv_len_prefill", run.cached_FL[0], golden["kv_len_prefill"])
    return compared + same("kv_len_end", run.cached_FL[-1], golden["kv_len_end"])

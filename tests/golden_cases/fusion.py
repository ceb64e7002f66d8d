"""Replay of golden files: FrameFusion. Functions as in `memory`.

Shape suffixes: N rows, V visual rows, D width, K kept rows.
"""

from dataclasses import replace
from pathlib import Path

import torch

from sharpv.pruners.framefusion import FrameFusion, FusionState, budget, neighbour_similarity
from sharpv.pruners.view import Layer, Layout, Site
from sharpv.runtime.adapter import Geometry
from sharpv.tokens import Selection

from .bare import Bare, build, config_of, replay
from .layers import LOGITS, SHORT_NAMES, layout_of, sequence, view, weights_of
from .recorded import Result, close, read, same


def framefusion(path: Path) -> Result:
    golden, meta = read(path)
    if "raises" in golden:
        return framefusion_budget(golden)
    method = FrameFusion(
        float(meta["cost"]), float(meta["similarity_lower_bound"]), float(meta["ratio_lower_bound"]),
        int(meta["attn_rows"]),
    )  # fmt: skip
    return (framefusion_run if "inputs_embeds" in golden else framefusion_calls)(golden, meta, method)


def framefusion_budget(golden: dict[str, torch.Tensor]) -> Result:
    ratios, raises = [], []
    for row, length, cost, depth in zip(
        *(golden[n] for n in ("sparsity", "length", "cost", "num_layers")), strict=True
    ):
        try:
            ratios.append(budget(row[:length].tolist(), float(cost), int(depth)))
        except ValueError:
            ratios.append(-1.0)
        raises.append(int(ratios[-1] < 0))
    compared = same("raises", torch.tensor(raises), golden["raises"])
    return compared, close("ratio", torch.tensor(ratios), golden["ratio"], 1e-6)


def framefusion_calls(golden: dict[str, torch.Tensor], meta: dict[str, str], method: FrameFusion) -> Result:
    length, start, visual = (
        int(meta[name]) for name in ("original_length", "image_token_start_index", "image_token_length")
    )
    patch_V = golden["patch_type"][start : start + visual]
    layout = layout_of(length, start, visual, int(meta["num_layers_budget"]), patch_V)
    state, alive_V = method.begin(layout), torch.arange(visual)
    compared, difference = 0, 0.0
    for call in range(int(meta["calls"])):
        now = {name.split(".", 1)[1]: value for name, value in golden.items() if name.startswith(f"call{call}.")}
        layer = view(layout, max(0, call - 1), now["hidden_in"], now.get("attention"), alive_V)
        if "bound" in now:
            bound = budget(state.sparsities, method.keep_ratio, layout.depth)
            difference = max(difference, close("bound", torch.tensor([bound]), now["bound"], 1e-6))
        if "similarity_patch_order" in now:
            similarity_V, order_V = neighbour_similarity(layer.visual_VD, patch_V[alive_V])
            placed_V = patch_V[alive_V][order_V] >= 0
            compared += same("token_index", start + order_V[placed_V], now["token_index_patch_order"])
            found = close("similarity", similarity_V[placed_V], now["similarity_patch_order"], 1e-5)
            difference = max(difference, found)
        selection = method.keep_rows(layer, "attended" if call else "enter", state)
        alive_V, hidden_ND = carried_out(layout, layer, selection)
        compared += same(f"call{call}.kept", sequence(layout, alive_V), now["kept"])
        compared += flags(call, state, now)
        difference = max(difference, close(f"call{call}.hidden_out", hidden_ND, now["hidden_out"], 1e-5))
    return compared, difference


def carried_out(layout: Layout, layer: Layer, selection: Selection | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Visual rows alive and all rows' states after a selection."""
    if selection is None:
        return layer.alive_V, layer.hidden_ND
    kept_V = selection.origin_K
    rows_KD = selection.features_KD
    if rows_KD is None:
        rows_KD = layer.visual_VD[torch.isin(layer.alive_V, kept_V)]
    before, behind = layer.hidden_ND[: layout.start], layer.hidden_ND[layer.visual_slice.stop :]
    return kept_V, torch.cat([before, rows_KD, behind])


def flags(call: int, state, now: dict[str, torch.Tensor]) -> int:
    ours, theirs = torch.tensor(state.sparsities), now["sparsity_list"]
    assert ours.shape == theirs.shape, f"call{call}.sparsity_list: {len(ours)} merges instead of {len(theirs)}"
    assert torch.allclose(ours, theirs, rtol=0, atol=1e-6), f"call{call}.sparsity_list: {ours} instead of {theirs}"
    return same(f"call{call}.flags", torch.tensor([int(state.merged), int(state.pruned)]), now["flags"])


def counts_28_layers(meta: dict[str, str]) -> bool:
    """Whether a model's budget is over 28 layers instead of its own."""
    counted, depth = int(meta["num_layers_budget"]), int(meta["layers"])
    assert counted in (28, depth), f"a budget over {counted} layers in a model of {depth}"
    return counted == 28


def asked_of(method: FrameFusion, patch_V: torch.Tensor) -> list[tuple[Layer, Selection | None, FusionState]]:
    """A list that fills, in a run, with the calls that the official code makes as well: what `keep_rows` is shown and
    returns, and its state then. Places are the file's: rows of text between frames have none."""
    asked, begin, keep_rows = [], method.begin, method.keep_rows

    def recorded(layer: Layer, site: Site, state: FusionState) -> Selection | None:
        layer = replace(layer, layout=replace(layer.layout, patch_V=patch_V), hidden_ND=layer.hidden_ND.clone())
        selection = keep_rows(layer, site, state)
        if site == "attended" or layer.index == 0:
            asked.append((layer, selection, replace(state, sparsities=list(state.sparsities))))
        return selection

    method.begin = lambda layout: begin(replace(layout, patch_V=patch_V))
    method.keep_rows = recorded
    return asked


def framefusion_call(
    call: int,
    recorded: tuple[Layer, Selection | None, FusionState],
    layout: Layout,
    golden: dict[str, torch.Tensor],
) -> Result:
    """Compares one call of a model's run; its attention where that was recorded, in which case it pruned."""
    now = weights_of(golden, f"call{call}.")
    layer, selection, state = recorded
    alive_V, hidden_ND = carried_out(layout, layer, selection)
    compared = same(f"call{call}.kept", sequence(layout, alive_V), now["kept"]) + flags(call, state, now)
    difference = close(f"call{call}.hidden_out", hidden_ND, now["hidden_out"], 1e-5)
    if "attention" in now:
        rows_HQN = layer.attention_rows(list(range(-now["attention"].shape[1], 0))).detach()
        difference = max(difference, close(f"call{call}.attention", rows_HQN, now["attention"], 1e-6))
    return compared, difference


def framefusion_run(golden: dict[str, torch.Tensor], meta: dict[str, str], method: FrameFusion) -> Result:
    model = build("qwen2", config_of(meta, SHORT_NAMES), weights_of(golden, "w."))
    start, visual = int(meta["image_token_start_index"]), int(meta["image_token_length"])
    method.official = counts_28_layers(meta)
    asked = asked_of(method, golden["patch_type"][start : start + visual])
    bare = Bare(model, golden["inputs_embeds"], start, Geometry(1, (1, visual), 0))
    run = replay(bare, None, method, golden["generated"][:-1].tolist())
    compared, difference = 0, 0.0
    for call, recorded in enumerate(asked[: int(meta["calls"])]):
        found = framefusion_call(call, recorded, run.report.layout, golden)
        compared, difference = compared + found[0], max(difference, found[1])
    compared += same("kv_lengths", run.cached_FL, golden["kv_lengths"])
    compared += same("positions", run.positions_T, golden["decode_positions"])
    logits = torch.cat([run.prefill_NX[-1:], run.steps_TX])
    compared += same("generated", logits.argmax(-1), golden["generated"])
    return compared, max(
        difference,
        close("prefill_logits", run.prefill_NX, golden["prefill_logits"], LOGITS),
        close("decode_logits", run.steps_TX, golden["decode_logits"], LOGITS),
    )

"""Replay of golden files: FrameFusion. Functions as in `memory`.

Shape suffixes: N rows, V visual rows, D width, K kept rows.
"""

from pathlib import Path

import torch

from sharpv.pruners.base import Layer, Layout
from sharpv.pruners.framefusion import FrameFusion, budget, neighbour_similarity
from sharpv.runtime.adapter import Geometry
from sharpv.tokens import Selection

from .bare import Bare, build, config_of, replay
from .layers import LOGITS, SHORT_NAMES, layout_of, selections_of, sequence, view, weights_of
from .recorded import Result, close, read, same


def framefusion(path: Path) -> Result:
    golden, meta = read(path)
    if path.name.startswith("budget"):
        return framefusion_budget(golden)
    method = FrameFusion(
        float(meta["cost"]), float(meta["similarity_lower_bound"]), float(meta["ratio_lower_bound"]),
        int(meta["attn_rows"]), official=True,
    )  # fmt: skip
    return (framefusion_run if path.name.startswith("e2e") else framefusion_calls)(golden, meta, method)


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
            bound = budget(state.sparsities, method.keep_ratio, 28)
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


def framefusion_run(golden: dict[str, torch.Tensor], meta: dict[str, str], method: FrameFusion) -> Result:
    model = build("qwen2", config_of(meta, SHORT_NAMES), weights_of(golden, "w."))
    geometry = Geometry(int(meta["n_frames"]), (1, int(meta["patch_num"])), 0)
    bare = Bare(model, golden["inputs_embeds"], int(meta["image_token_start_index"]), geometry)
    calls = selections_of(method)
    run = replay(bare, None, method, golden["generated"][:-1].tolist())
    asked = [(layer, selection) for site, layer, selection in calls if site == "attended" or layer.index == 0]
    layout, compared, difference = run.report.layout, 0, 0.0
    for call, (layer, selection) in enumerate(asked[: int(meta["calls"])]):
        now = {name: golden[f"call{call}.{name}"] for name in ("kept", "hidden_out")}
        alive_V, hidden_ND = carried_out(layout, layer, selection)
        compared += same(f"call{call}.kept", sequence(layout, alive_V), now["kept"])
        difference = max(difference, close(f"call{call}.hidden_out", hidden_ND, now["hidden_out"], 1e-5))
    compared += flags(3, run.report.state, {name: golden[f"call3.{name}"] for name in ("flags", "sparsity_list")})
    compared += same("kv_lengths", run.cached_FL, golden["kv_lengths"])
    compared += same("positions", run.positions_T, golden["decode_positions"])
    logits = torch.cat([run.prefill_NX[-1:], run.steps_TX])
    compared += same("generated", logits.argmax(-1), golden["generated"])
    return compared, max(
        difference,
        close("attention", asked[3][0].attention_rows([-1]).detach(), golden["call3.attention"], 1e-6),
        close("prefill_logits", run.prefill_NX, golden["prefill_logits"], LOGITS),
        close("decode_logits", run.steps_TX, golden["decode_logits"], LOGITS),
    )

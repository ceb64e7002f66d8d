"""Replay of golden files: FastV, VTW, PruneVid stage 2, DyCoke stage 2 and FrameFusion.

Each function takes one file, hands its inputs to the state methods of the class configured from the file's metadata, or
runs the stock model built from its weights through the context manager, and returns the number of indices compared and
the largest float difference. AssertionError on a mismatch, LookupError for a file that another module replays.

Shape suffixes: H heads, Q query rows, N rows, V visual rows, D width, K kept rows, X vocabulary.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from sharpv.pruners.base import Layer, Layout, MemoryPruner
from sharpv.pruners.dycoke_cache import DyCokeCache
from sharpv.pruners.fastv import FastV
from sharpv.pruners.framefusion import FrameFusion, budget, neighbour_similarity
from sharpv.pruners.prunevid import PruneVidMerge
from sharpv.pruners.prunevid_attention import PruneVidAttention
from sharpv.pruners.vtw import VTW
from sharpv.runtime.adapter import Geometry
from sharpv.runtime.cache import PrunableLayer
from sharpv.runtime.calibrate_vtw import choose_layer, divergence, withdrawal_divergence
from sharpv.runtime.session import Report, Session
from sharpv.tokens import Selection

from .bare import Bare, build, config_of, replay
from .visual_b import Result, close, read, same

LOGITS = 1e-4
QWEN_OF_DYCOKE = {name: name for name in (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
    "rms_norm_eps", "rope_theta",
)}  # fmt: skip
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
    return Layout(length, start, visual, visual, depth, 1, (1, visual), fed_VD, frame_V, patch_V, selection=selection)


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


def llama(golden: dict[str, torch.Tensor], meta: dict[str, str], sample: int = 0) -> Bare:
    """The tiny Llama of FastV's and VTW's files."""
    model = build("llama", json.loads(meta["llama_config"]), weights_of(golden, "weights."))
    geometry = Geometry(1, (1, int(meta["visual_len"])), 0)
    return Bare(model, golden["inputs_embeds"][sample], int(meta["visual_start"]), geometry)


def fastv(path: Path) -> Result:
    golden, meta = read(path)
    if path.name.startswith("e2e"):
        return fastv_run(golden, meta)
    layout = layout_of(int(meta["seq_len"]), int(meta["visual_start"]), int(meta["visual_len"]), depth=4)
    compared, difference = 0, 0.0
    for name in {"kept", "kept_floor"} & golden.keys():
        floor = name == "kept_floor" or meta["rounding"].startswith("int(")
        method = FastV(2, float(meta["keep_ratio"]), "floor" if floor else "even", scale_layers=False)
        state = method.begin(layout)
        assert method.keep_rows(view(layout, 1, rows_HQN=golden["attn"]), "enter", state) is None
        selection = method.keep_rows(view(layout, 2), "enter", state)
        compared += same(name, sequence(layout, selection.origin_K), golden[name])
        difference = max(difference, close("scores", state["scores"], golden["scores"], 1e-6))
    return compared, difference


def fastv_run(golden: dict[str, torch.Tensor], meta: dict[str, str]) -> Result:
    bare = llama(golden, meta)
    method = FastV(int(meta["K"]), float(meta["keep_ratio"]), scale_layers=False)
    calls = selections_of(method)
    run = replay(bare, None, method, golden["decode_token_ids"].tolist())
    (selection,) = (selection for *_, selection in calls if selection is not None)
    compared = same("kept", sequence(run.report.layout, selection.origin_K), golden["kept"])
    compared += cached_rows(run, golden) + same("positions", run.positions_T, golden["decode_position_ids"])
    scores = close("scores", run.report.state["scores"], golden["scores"], 1e-6)
    logits = torch.cat([run.prefill_NX[-1:], run.steps_TX])
    return compared, max(scores, close("logits", logits, golden["logits_cached"], LOGITS))


def cached_rows(run, golden: dict[str, torch.Tensor]) -> int:
    layout = run.report.layout
    computed_L = torch.tensor(run.report.visual_rows) + layout.length - layout.visual
    compared = same("layer_seq_len", computed_L, golden["layer_seq_len"])
    compared += same("kv_len_prefill", run.cached_FL[0], golden["kv_len_prefill"])
    return compared + same("kv_len_end", run.cached_FL[-1], golden["kv_len_end"])


def vtw(path: Path) -> Result:
    golden, meta = read(path)
    kind = path.name.split("_")[0]
    return {"wd": vtw_withdrawal, "calib": vtw_choice, "findk": vtw_calibration, "e2e": vtw_run}[kind](golden, meta)


def vtw_withdrawal(golden: dict[str, torch.Tensor], meta: dict[str, str]) -> Result:
    layout = layout_of(int(meta["seq_len"]), int(meta["visual_start"]), int(meta["visual_len"]), depth=2)
    method = VTW(1, scale_layers=False)
    session = Session([None, None], None, method, layout, [PrunableLayer(), PrunableLayer()], Report())
    angles = golden["position_ids"][..., None].float()
    call = {"position_embeddings": (angles, angles), "position_ids": golden["position_ids"]}
    hidden_BND = session.enter(0, golden["hidden_states"], dict(call))
    hidden_BND = session.enter(1, hidden_BND, call)
    compared = same("kept", session.rows_N, golden["kept"])
    compared += same("positions", call["position_ids"], golden["position_ids_keep"])
    compared += same("angles", call["position_embeddings"][0][..., 0].long(), golden["position_ids_keep"])
    return compared, close("hidden_out", hidden_BND, golden["hidden_out"], 0.0)


def vtw_choice(golden: dict[str, torch.Tensor], meta: dict[str, str]) -> Result:
    pairs = zip(golden["logits_withdrawn"], golden["logits_full"], strict=True)
    divergence_SC = torch.stack([divergence(withdrawn_CX, full_X) for withdrawn_CX, full_X in pairs])
    first, bounds = int(meta["first_candidate"]), [name for name in meta if name.startswith("eta[")]
    ours = [choose_layer(divergence_SC, float(meta[name]), first) for name in bounds]
    theirs = [int(meta[name.replace("eta", "K", 1)]) for name in bounds]
    compared = same("K", torch.tensor(ours), torch.tensor(theirs))
    default = torch.tensor([choose_layer(divergence_SC, 3e-3, first)])
    compared += same("K_default_eta", default, golden["K_default_eta"])
    return compared, close("kl", divergence_SC, golden["kl"], 1e-5)


def vtw_calibration(golden: dict[str, torch.Tensor], meta: dict[str, str]) -> Result:
    rows = []
    for sample in range(int(meta["samples"])):
        bare = llama(golden, meta, sample)
        with bare.feeding():
            rows.append(withdrawal_divergence(bare, {"input_ids": bare.input_ids}, int(meta["first_candidate"])))
    divergence_SC = torch.stack(rows)
    mean_C = divergence_SC.mean(0)
    compared = same("order of candidates", mean_C.argsort(), golden["kl_mean"].argsort())
    difference = close("kl", divergence_SC, golden["kl"], 1e-5)
    return compared, max(difference, close("kl_mean", mean_C, golden["kl_mean"], 1e-5))


def vtw_run(golden: dict[str, torch.Tensor], meta: dict[str, str]) -> Result:
    method = VTW(int(meta["K"]), scale_layers=False)
    calls = selections_of(method)
    run = replay(llama(golden, meta), None, method, golden["decode_token_ids"].tolist())
    (selection,) = (selection for *_, selection in calls if selection is not None)
    compared = same("kept", sequence(run.report.layout, selection.origin_K), golden["kept"])
    compared += cached_rows(run, golden) + same("positions", run.positions_T, golden["decode_position_ids"])
    logits = torch.cat([run.prefill_NX[-1:], run.steps_TX])
    return compared, close("logits", logits, golden["logits_keep"], LOGITS)


def prunevid(path: Path) -> Result:
    golden, meta = read(path)
    if path.name.startswith("e2e"):
        return prunevid_run(golden, meta)
    if not path.name.startswith("stage2"):
        raise LookupError("a file of stage 1, the visual stage")
    start, visual, post = (int(meta[name]) for name in ("img_start", "num_visual", "num_post"))
    sizes = zip(*(golden[f"{name}_sizes"].tolist() for name in ("static", "dynamic", "window")), strict=True)
    groups = [size for static, dynamic, window in sizes for size in [static, *[dynamic // window] * window]]
    group_K = torch.arange(len(groups)).repeat_interleave(torch.tensor(groups))
    layout = layout_of(int(meta["seq_len"]), start, visual, depth=4, group_K=group_K)
    rows_HQN = torch.nn.functional.pad(golden["text_attention"], (start, post))
    method = PruneVidAttention(float(meta["alpha"]), 1, scale_layers=False)
    state = method.begin(layout)
    orders = method.keep_cache(view(layout, 1, rows_HQN=rows_HQN), state)
    assert set(orders) == {0, 1}, f"caches of layers {set(orders)} are cut"
    selection = method.keep_rows(view(layout, 2), "enter", state)
    compared = same("topk_indices", state.best_K, golden["topk_indices"])
    compared += same("kept_visual_sorted", orders[0].index, golden["kept_visual_sorted"])
    compared += same("kept_sequence", sequence(layout, selection.origin_K), golden["kept_sequence"])
    return compared, close("score", state.scores_V, golden["score"], 0.0)


def prunevid_run(golden: dict[str, torch.Tensor], meta: dict[str, str]) -> Result:
    model = build("llama", config_of(meta, SHORT_NAMES), weights_of(golden, "w."))
    place = (golden["input_ids"] == int(meta["image_token_index"])).nonzero().item()
    embedded_ND = model.get_input_embeddings()(golden["input_ids"]).detach()
    rows_ND = torch.cat([embedded_ND[:place], golden["features"].flatten(0, 1), embedded_ND[place + 1 :]])
    geometry = Geometry(int(meta["num_frames"]), (int(meta["height"]), int(meta["width"])), 0)
    visual = PruneVidMerge(
        float(meta["cluster_ratio"]), float(meta["tau"]), float(meta["temporal_segment_ratio"]), noise=0.0
    )
    memory = PruneVidAttention(float(meta["alpha"]), int(meta["selected_layer"]), scale_layers=False)
    calls = selections_of(memory)
    run = replay(Bare(model, rows_ND, place, geometry), visual, memory, golden["generated"][:-1].tolist())
    layout, state = run.report.layout, run.report.state
    compared = same("topk_indices", state.best_K, golden["topk_indices"])
    compared += same("kept_sequence", sequence(layout, state.kept_K), golden["kept_sequence"])
    compared += same("kv_lengths", run.cached_FL, golden["kv_lengths"])
    compared += same("positions", run.positions_T, golden["decode_positions"])
    generated = torch.cat([run.prefill_NX[-1:], run.steps_TX]).argmax(-1)
    compared += same("generated", generated, golden["generated"])
    fed_ND = calls[0][1].hidden_ND
    return compared, max(
        close("merged_inputs_embeds", fed_ND, golden["merged_inputs_embeds"], 1e-5),
        close("score", state.scores_V, golden["score"], 1e-5),
        close("prefill_logits", run.prefill_NX, golden["prefill_logits"], LOGITS),
        close("decode_logits", run.steps_TX, golden["decode_logits"], LOGITS),
    )


def dycoke(path: Path) -> Result:
    golden, meta = read(path)
    if not path.name.startswith("s2_"):
        raise LookupError("a file of stage 1, the visual stage")
    method = DyCokeCache(
        int(meta["L"]), 1 - float(meta["P"]), float(meta["similarity_threshold"]), scale_layers=False, official=True
    )
    return (dycoke_run if "e2e" in path.name else dycoke_rows)(golden, meta, method)


def dycoke_rows(golden: dict[str, torch.Tensor], meta: dict[str, str], method: DyCokeCache) -> Result:
    layout = layout_of(int(meta["prompt_len"]), int(meta["image_token_start_index"]), int(meta["n_visual"]), depth=6)
    reads, similarities = [], []
    for rows_HS, length, step in zip(golden["attn_rows"], golden["seq_lens"], golden["step"], strict=True):
        if step == 0:
            state = method.begin(layout)
        scored = view(layout, method.layer - 1, rows_HQN=rows_HS[:, None, :length], step=int(step) + 1)
        assert method.attend(scored, state) is None, "the layer that gives the scores reads all rows"
        reads.append(method.attend(view(layout, method.layer, step=int(step) + 1), state))
        similarities.append(state.similarity)
    return dycoke_sets(layout, reads, golden), close(
        "similarity", torch.tensor(similarities), golden["similarity"], 1e-6
    )


def dycoke_sets(layout: Layout, reads: list[torch.Tensor | None], golden: dict[str, torch.Tensor]) -> int:
    every_V = torch.arange(layout.visual)
    sets = [
        sequence(layout, every_V if read_K is None else read_K, int(rows))
        for read_K, rows in zip(reads, golden["seq_lens"], strict=True)
    ]
    offsets = torch.tensor([0, *map(len, sets)]).cumsum(0)
    compared = same("refreshed", torch.tensor([int(read_K is not None) for read_K in reads]), golden["refreshed"])
    compared += same("kept_offsets", offsets, golden["kept_offsets"])
    return compared + same("kept_flat", torch.cat(sets), golden["kept_flat"])


def dycoke_run(golden: dict[str, torch.Tensor], meta: dict[str, str], method: DyCokeCache) -> Result:
    model = build("qwen2", config_of(meta, QWEN_OF_DYCOKE), weights_of(golden, "model_weights."))
    geometry = Geometry(1, (1, int(meta["n_visual"])), int(meta["n_newline"]))
    bare = Bare(model, golden["inputs_embeds"][0], int(meta["image_token_start_index"]), geometry)
    run = replay(
        bare, None, method, golden["token_ids"][:-1].tolist(),
        lambda state: (state.read_K, state.similarity, state.scores_V),
    )  # fmt: skip
    reads, similarities, scores = zip(*run.reads, strict=True)
    layout = run.report.layout
    compared = dycoke_sets(layout, reads, golden)
    text_T = golden["seq_lens"] - layout.visual
    reads_TL = torch.tensor(run.report.reads)
    compared += same("kv_len_shallow", reads_TL[:, method.layer - 1] + text_T, golden["kv_len_shallow"])
    compared += same("kv_len_deep", reads_TL[:, method.layer] + text_T, golden["kv_len_deep"])
    logits = torch.cat([run.prefill_NX[-1:], run.steps_TX])
    compared += same("token_ids", logits.argmax(-1), golden["token_ids"])
    return compared, max(
        close("logits", logits, golden["logits"], 1e-5),
        close("similarity", torch.tensor(similarities), golden["similarity"], 1e-5),
        close("score", torch.stack(scores), golden["score"], 1e-5),
    )


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


CASES: dict[str, Callable[[Path], Result]] = {
    "fastv": fastv,
    "vtw": vtw,
    "prunevid": prunevid,
    "dycoke": dycoke,
    "framefusion": framefusion,
}

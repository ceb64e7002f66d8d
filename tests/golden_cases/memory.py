"""Replay of golden files: FastV, VTW, PruneVid stage 2, DyCoke stage 2, FrameFusion, PyramidDrop and
the inner stages of HoliTom and FlashVID.

Each function takes one file, hands its inputs to the state methods of the class configured from the file's metadata, or
runs the stock model built from its weights through the context manager, and returns the number of indices compared and
the largest float difference. AssertionError on a mismatch, LookupError for a file that another module replays.

Shape suffixes: H heads, N rows, V visual rows, D width, K kept rows, L layers, T steps.
"""

from collections.abc import Callable
from pathlib import Path

import torch

from sharpv.pruners.dycoke_cache import DyCokeCache
from sharpv.pruners.prunevid import PruneVidMerge
from sharpv.pruners.prunevid_attention import PruneVidAttention
from sharpv.pruners.view import Layout
from sharpv.runtime.adapter import Geometry

from .bare import Bare, build, config_of, replay
from .early_layers import fastv, vtw
from .fusion import framefusion
from .late_layers import flashvid, holitom, pyramiddrop
from .layers import LOGITS, SHORT_NAMES, layout_of, selections_of, sequence, view, weights_of
from .recorded import Result, close, read, same

QWEN_OF_DYCOKE = {name: name for name in (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
    "rms_norm_eps", "rope_theta",
)}  # fmt: skip


def prunevid(path: Path) -> Result:
    golden, meta = read(path)
    if "prefill_logits" in golden:
        return prunevid_run(golden, meta)
    if "text_attention" not in golden:
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
        float(meta["cluster_ratio"]), float(meta["tau"]), float(meta["temporal_segment_ratio"]),
        noise=0.0, official=True,
    )  # fmt: skip
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
    prefill_NX = run.prefill_NX
    if memory.layer == layout.depth - 1:
        prefill_NX = prefill_NX[golden["kept_sequence"]]  # behind the last layer only the official code cuts rows
    fed_ND = calls[0][1].hidden_ND
    return compared, max(
        close("merged_inputs_embeds", fed_ND, golden["merged_inputs_embeds"], 1e-5),
        close("score", state.scores_V, golden["score"], 1e-5),
        close("prefill_logits", prefill_NX, golden["prefill_logits"], LOGITS),
        close("decode_logits", run.steps_TX, golden["decode_logits"], LOGITS),
    )


def dycoke(path: Path) -> Result:
    golden, meta = read(path)
    if "kept_offsets" not in golden:
        raise LookupError("a file of stage 1, the visual stage")
    method = DyCokeCache(
        int(meta["L"]), 1 - float(meta["P"]), float(meta["similarity_threshold"]), scale_layers=False, official=True
    )
    return (dycoke_run if "inputs_embeds" in golden else dycoke_rows)(golden, meta, method)


def dycoke_rows(golden: dict[str, torch.Tensor], meta: dict[str, str], method: DyCokeCache) -> Result:
    layout = layout_of(
        int(meta["prompt_len"]), int(meta["image_token_start_index"]), int(meta["n_visual"]), int(meta["L"]) + 1
    )
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


CASES: dict[str, Callable[[Path], Result]] = {
    "fastv": fastv,
    "vtw": vtw,
    "prunevid": prunevid,
    "dycoke": dycoke,
    "framefusion": framefusion,
    "pyramiddrop": pyramiddrop,
    "holitom": holitom,
    "flashvid": flashvid,
}

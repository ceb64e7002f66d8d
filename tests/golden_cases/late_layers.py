"""Replay of golden files: PyramidDrop and the inner stages of HoliTom and FlashVID. Functions as in `memory`.

Shape suffixes: H heads, Q query rows, N rows, V visual rows, D width, K kept rows.
"""

import json
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import nn
from transformers.models.llama.modeling_llama import LlamaConfig, LlamaRMSNorm, LlamaRotaryEmbedding

from sharpv.pruners.flashvid_inner import FlashVIDInner
from sharpv.pruners.holitom_inner import HoliTomInner
from sharpv.pruners.pyramiddrop import PyramidDrop
from sharpv.runtime.adapter import Geometry
from sharpv.runtime.attention import attention_rows

from .bare import Bare, Run, build, replay
from .fusion import carried_out
from .layers import LOGITS, cached_rows, layout_of, selections_of, sequence, view, weights_of
from .recorded import Result, close, read, same

ROWS = 1e-5
OUTER = "a file of the visual stage"


def bare_of(golden: dict[str, torch.Tensor], meta: dict[str, str], family: str, prefix: str) -> Bare:
    """The file's tiny model with the file's prompt."""
    model = build(family, json.loads(meta[f"{family}_config"]), weights_of(golden, prefix))
    geometry = Geometry(1, (1, int(meta["visual_len"])), 0)
    return Bare(model, golden["inputs_embeds"], int(meta["visual_start"]), geometry)


def logits_of(run: Run) -> torch.Tensor:
    return torch.cat([run.prefill_NX[-1:], run.steps_TX])


def pyramiddrop(path: Path) -> Result:
    golden, meta = read(path)
    if "rows" in golden:
        return pyramiddrop_budgets(golden)
    return (pyramiddrop_run if "inputs_embeds" in golden else pyramiddrop_stage)(golden, meta)


def pyramiddrop_budgets(golden: dict[str, torch.Tensor]) -> Result:
    kept = []
    for (total, stage, entering, _), ratios in zip(golden["rows"].tolist(), golden["ratios"].tolist(), strict=True):
        # A stage by itself: the file also holds stages behind a smaller one, a setting that the method refuses.
        method = PyramidDrop((1,), (ratios[stage],), scale_layers=False)
        layout = layout_of(total + 2, 1, total, depth=2)
        rows_HQN = torch.rand(1, 1, entering + 2, generator=torch.Generator().manual_seed(total))
        layer = view(layout, 1, rows_HQN=rows_HQN, alive_V=torch.arange(entering))
        kept.append(len(method.keep_rows(layer, "enter", method.begin(layout))))
    return same("rows kept", torch.tensor(kept), golden["rows"][:, 3]), 0.0


def pyramiddrop_stage(golden: dict[str, torch.Tensor], meta: dict[str, str]) -> Result:
    method = PyramidDrop(tuple(json.loads(meta["layer_list"])), tuple(json.loads(meta["ratios"])), scale_layers=False)
    total, entering, start = (int(meta[name]) for name in ("visual_total", "visual_len", "visual_start"))
    length, index = int(meta["seq_len"]), int(meta["layer"])
    depth = max(method.layers) + 1
    entered, whole = (
        layout_of(length, start, entering, depth),
        layout_of(length - entering + total, start, total, depth),
    )
    state = method.begin(whole)
    layer = view(whole, index, golden["hidden_in"], golden["attn"], torch.arange(entering))
    selection = method.keep_rows(layer, "enter", state)
    compared = same("kept", sequence(entered, selection.origin_K), golden["kept"])
    attention_HQN = attention_of(golden, meta)
    return compared, max(
        close("scores", state[index], golden["scores"], ROWS), close("attn", attention_HQN, golden["attn"], ROWS)
    )


@torch.no_grad()
def attention_of(golden: dict[str, torch.Tensor], meta: dict[str, str]) -> torch.Tensor:
    """The last row's attention, from the states and the layer's weights."""
    hidden_ND, heads = golden["hidden_in"], int(meta["heads"])
    width = hidden_ND.shape[1]
    rope = {"rope_type": "default", "rope_theta": float(meta["rope_theta"])}
    config = LlamaConfig(hidden_size=width, num_attention_heads=heads, rope_parameters=rope)
    cos_1NE, sin_1NE = LlamaRotaryEmbedding(config)(hidden_ND[None], torch.arange(len(hidden_ND))[None])
    norm = LlamaRMSNorm(width, eps=float(meta["rms_norm_eps"]))
    parts = {"input_layernorm": norm} | {name: nn.Linear(width, width, bias=False) for name in ("q_proj", "k_proj")}
    for name, module in parts.items():
        module.weight.copy_(golden[f"layer.{name}.weight"])
    scale = {"head_dim": width // heads, "scaling": (width // heads) ** -0.5}
    attention = SimpleNamespace(q_proj=parts["q_proj"], k_proj=parts["k_proj"], **scale)
    layer = SimpleNamespace(self_attn=attention, input_layernorm=norm)
    return attention_rows(layer, hidden_ND, [-1], cos_1NE[0], sin_1NE[0])


def pyramiddrop_run(golden: dict[str, torch.Tensor], meta: dict[str, str]) -> Result:
    """Against `original.*`, since rows keep their positions; the first stage also against the official run."""
    method = PyramidDrop(tuple(json.loads(meta["layer_list"])), tuple(json.loads(meta["ratios"])), scale_layers=False)
    calls = selections_of(method)
    run = replay(bare_of(golden, meta, "llama", "weights."), None, method, golden["decode_token_ids"].tolist())
    stages = [selection for *_, selection in calls if selection is not None]
    layout = run.report.layout
    compared = same("stage0.kept", sequence(layout, stages[0].origin_K), golden["stage0.kept"])
    for stage, selection in enumerate(stages):
        name = f"original.stage{stage}.kept"
        compared += same(name, sequence(layout, selection.origin_K), golden[name])
    compared += cached_rows(run, golden)
    compared += same("positions", run.positions_T, golden["original.decode_position_ids"])
    return compared, max(
        close("stage0.scores", run.report.state[method.layers[0]], golden["stage0.scores"], ROWS),
        close("logits", logits_of(run), golden["original.logits"], LOGITS),
        close("prefill_logits", run.prefill_NX, golden["original.prefill_logits"], LOGITS),
    )


def holitom(path: Path) -> Result:
    golden, meta = read(path)
    if "inputs_embeds" in golden:
        return holitom_run(golden, meta)
    if "hidden_out" not in golden:
        raise LookupError(OUTER)
    layout = layout_of(int(meta["seq_len"]), int(meta["visual_start"]), int(meta["visual_len"]), depth=3)
    method = HoliTomInner(2, 1 - float(meta["r"]), scale_layers=False)
    state = method.begin(layout)
    assert method.keep_rows(view(layout, 1, rows_HQN=golden["attn"]), "enter", state) is None
    layer = view(layout, 2, golden["hidden_in"])
    selection = method.keep_rows(layer, "enter", state)
    kept_K, assign_V = selection.origin_K, selection.assign_N
    into_V = torch.full_like(assign_V, -1)
    gone_V = ~torch.isin(torch.arange(layout.visual), kept_K)
    into_V[gone_V] = kept_K[assign_V[gone_V]]
    compared = same("kept", sequence(layout, kept_K), golden["kept"])
    compared += same("merged_into", into_V, golden["merged_into"])
    return compared, max(
        close("scores", state["scores"], golden["scores"], ROWS),
        close("hidden_out", carried_out(layout, layer, selection)[1], golden["hidden_out"], ROWS),
    )


def holitom_run(golden: dict[str, torch.Tensor], meta: dict[str, str]) -> Result:
    """Against `causal.*`, since no layer attends to later rows; the rows kept are also the official ones."""
    method = HoliTomInner(int(meta["k"]), 1 - float(meta["r"]), scale_layers=False)
    calls = selections_of(method)
    run = replay(bare_of(golden, meta, "qwen2", "w."), None, method, golden["causal.decode_token_ids"].tolist())
    ((_, layer, selection),) = [call for call in calls if call[2] is not None]
    layout = run.report.layout
    compared = same("kept", sequence(layout, selection.origin_K), golden["kept"]) + cached_rows(run, golden)
    compared += same("positions", run.positions_T, golden["decode_position_ids"])
    return compared, max(
        close("scores", run.report.state["scores"], golden["scores"], ROWS),
        close("hidden_in", layer.hidden_ND, golden["causal.hidden_in"], ROWS),
        close("hidden_out", carried_out(layout, layer, selection)[1], golden["causal.hidden_out"], ROWS),
        close("logits", logits_of(run), golden["causal.logits"], LOGITS),
    )


def flashvid(path: Path) -> Result:
    golden, meta = read(path)
    if "scores" not in golden:
        raise LookupError(OUTER)
    ratio = float(meta["llm_retention_ratio"])
    if "inputs_embeds" in golden:
        return flashvid_run(golden, meta, FlashVIDInner(int(meta["pruning_layer"]), ratio, scale_layers=False))
    layout = layout_of(int(meta["seq_len"]), int(meta["visual_start"]), int(meta["visual_len"]), depth=3)
    method = FlashVIDInner(2, ratio, scale_layers=False)
    state = method.begin(layout)
    assert method.keep_rows(view(layout, 1, rows_HQN=golden["attn"]), "enter", state) is None
    selection = method.keep_rows(view(layout, 2), "enter", state)
    compared = same("kept", sequence(layout, selection.origin_K), golden["kept"])
    return compared, close("scores", state["scores"], golden["scores"], ROWS)


def flashvid_run(golden: dict[str, torch.Tensor], meta: dict[str, str], method: FlashVIDInner) -> Result:
    calls = selections_of(method)
    run = replay(bare_of(golden, meta, "qwen2", "w."), None, method, golden["decode_token_ids"].tolist())
    (selection,) = (selection for *_, selection in calls if selection is not None)
    compared = same("kept", sequence(run.report.layout, selection.origin_K), golden["kept"])
    compared += cached_rows(run, golden) + same("positions", run.positions_T, golden["decode_position_ids"])
    return compared, max(
        close("scores", run.report.state["scores"], golden["scores"], ROWS),
        close("logits", logits_of(run), golden["logits"], LOGITS),
    )

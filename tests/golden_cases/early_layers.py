"""Replay of golden files: FastV and VTW, whose files hold the same tiny Llama. Functions as in `memory`.

Shape suffixes: H heads, N rows, V visual rows, D width, S samples, C candidate layers, X vocabulary.
"""

import json
from pathlib import Path
from typing import Literal

import torch

from sharpv.pruners.fastv import FastV
from sharpv.pruners.vtw import VTW
from sharpv.runtime.adapter import Geometry
from sharpv.runtime.cache import PrunableLayer
from sharpv.runtime.calibrate_vtw import choose_layer, divergence, withdrawal_divergence
from sharpv.runtime.report import Report
from sharpv.runtime.session import Session
from sharpv.tokens import Selection

from .bare import Bare, build, replay
from .compare import equal
from .layers import LOGITS, cached_rows, layout_of, selections_of, sequence, view, weights_of
from .recorded import Result, close, read, same


def llama(golden: dict[str, torch.Tensor], meta: dict[str, str], sample: int = 0) -> Bare:
    """The tiny Llama of FastV's and VTW's files."""
    model = build("llama", json.loads(meta["llama_config"]), weights_of(golden, "weights."))
    geometry = Geometry(1, (1, int(meta["visual_len"])), 0)
    return Bare(model, golden["inputs_embeds"][sample], int(meta["visual_start"]), geometry)


def fastv(path: Path) -> Result:
    golden, meta = read(path)
    if "inputs_embeds" in golden:
        return fastv_run(golden, meta)
    layout = layout_of(int(meta["seq_len"]), int(meta["visual_start"]), int(meta["visual_len"]), depth=4)
    compared, difference = 0, 0.0
    for name in {"kept", "kept_floor"} & golden.keys():
        floor = name == "kept_floor" or meta["rounding"].startswith("int(")
        method = fastv_method(meta, 2, "floor" if floor else "even")
        state = method.begin(layout)
        assert method.keep_rows(view(layout, 1, rows_HQN=golden["attn"]), "enter", state) is None
        selection = method.keep_rows(view(layout, 2), "enter", state)
        compared += same(name, sequence(layout, selection.origin_K), golden[name])
        compared += counted(name, selection, meta)
        difference = max(difference, close("scores", state["scores"], golden["scores"], 1e-6))
    return compared, difference


def fastv_method(meta: dict[str, str], layer: int, rounding: Literal["even", "floor"]) -> FastV:
    """FastV at a file's ratio: `even` takes 1 - R as the float that the official code forms, `floor` the recorded share
    kept, its parameter there."""
    ratio = 1 - float(meta["R"]) if rounding == "even" else float(meta["keep_ratio"])
    return FastV(layer, ratio, rounding, scale_layers=False)


def counted(name: str, selection: Selection, meta: dict[str, str]) -> int:
    """Compares the number of visual rows kept with the recorded one, where there is one."""
    field = name.replace("kept", "num_keep_visual")
    return equal(field, len(selection.origin_K), int(meta[field])) if field in meta else 0


def unpruned(bare: Bare, golden: dict[str, torch.Tensor], logits: torch.Tensor) -> Result:
    """A K from the depth on: officially nothing is pruned, while our methods refuse it."""
    run = replay(bare, None, None, golden["decode_token_ids"].tolist())
    compared = same("kept", torch.arange(len(bare.embeddings_ND)), golden["kept"]) if "kept" in golden else 0
    compared += cached_rows(run, golden) + same("positions", run.positions_T, golden["decode_position_ids"])
    return compared, close("logits", torch.cat([run.prefill_NX[-1:], run.steps_TX]), logits, LOGITS)


def fastv_run(golden: dict[str, torch.Tensor], meta: dict[str, str]) -> Result:
    bare = llama(golden, meta)
    if int(meta["K"]) >= len(bare.language_model.layers):
        return unpruned(bare, golden, golden["logits_cached"])
    method = fastv_method(meta, int(meta["K"]), "even")
    calls = selections_of(method)
    run = replay(bare, None, method, golden["decode_token_ids"].tolist())
    (selection,) = (selection for *_, selection in calls if selection is not None)
    compared = same("kept", sequence(run.report.layout, selection.origin_K), golden["kept"])
    compared += counted("kept", selection, meta)
    compared += cached_rows(run, golden) + same("positions", run.positions_T, golden["decode_position_ids"])
    scores = close("scores", run.report.state["scores"], golden["scores"], 1e-5)
    logits = torch.cat([run.prefill_NX[-1:], run.steps_TX])
    return compared, max(scores, close("logits", logits, golden["logits_cached"], LOGITS))


def vtw(path: Path) -> Result:
    golden, meta = read(path)
    kind = next((kind for tensor, kind in VTW_KINDS.items() if tensor in golden), None)
    assert kind is not None, f"holds none of the tensors {list(VTW_KINDS)}"
    return kind(golden, meta)


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
    bare = llama(golden, meta)
    if int(meta["K"]) >= len(bare.language_model.layers):
        return unpruned(bare, golden, golden["logits_keep"])
    method = VTW(int(meta["K"]), scale_layers=False)
    calls = selections_of(method)
    run = replay(bare, None, method, golden["decode_token_ids"].tolist())
    (selection,) = (selection for *_, selection in calls if selection is not None)
    compared = same("kept", sequence(run.report.layout, selection.origin_K), golden["kept"])
    compared += cached_rows(run, golden) + same("positions", run.positions_T, golden["decode_position_ids"])
    logits = torch.cat([run.prefill_NX[-1:], run.steps_TX])
    return compared, close("logits", logits, golden["logits_keep"], LOGITS)


# By a tensor that no other kind of file holds, or none further down.
VTW_KINDS = {
    "hidden_out": vtw_withdrawal,
    "logits_withdrawn": vtw_choice,
    "logits_keep": vtw_run,
    "kl": vtw_calibration,
}

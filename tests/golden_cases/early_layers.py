"""Replay of golden files: FastV and VTW, whose files hold the same tiny Llama. Functions as in `memory`.

Shape suffixes: H heads, N rows, V visual rows, D width, S samples, C candidate layers, X vocabulary.
"""

import json
from pathlib import Path

import torch

from sharpv.pruners.fastv import FastV
from sharpv.pruners.vtw import VTW
from sharpv.runtime.adapter import Geometry
from sharpv.runtime.cache import PrunableLayer
from sharpv.runtime.calibrate_vtw import choose_layer, divergence, withdrawal_divergence
from sharpv.runtime.session import Report, Session

from .bare import Bare, build, replay
from .layers import LOGITS, cached_rows, layout_of, selections_of, sequence, view, weights_of
from .recorded import Result, close, read, same


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

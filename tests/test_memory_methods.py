"""What FastV, VTW, PruneVid stage 2, DyCoke stage 2 and FrameFusion promise, on a tiny random LLaVA-OneVision.

Shape suffixes: H heads, N prompt rows, V visual rows, C candidate layers.
"""

import copy

import pytest
import torch

from sharpv.models import adapter_for
from sharpv.pair import Pruner
from sharpv.pruners.dycoke_cache import DyCokeCache
from sharpv.pruners.fastv import FastV
from sharpv.pruners.framefusion import FrameFusion
from sharpv.pruners.prunevid import PruneVidMerge
from sharpv.pruners.prunevid_attention import PruneVidAttention
from sharpv.pruners.sharpv import VisualSharpV
from sharpv.pruners.vtw import VTW
from sharpv.runtime.calibrate_vtw import choose_layer, divergence, withdrawal_divergence
from sharpv.tiny.build import build_config, build_model, build_tokenizer
from sharpv.tiny.scenes import SIDE

FRAMES, DEPTH = 6, 6
METHODS = [FastV(), VTW(), PruneVidAttention(), DyCokeCache(), FrameFusion()]


def name_of(value):
    return type(value).__name__


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(5)
    model = build_model(build_config(build_tokenizer(), layers=DEPTH)).eval()
    with torch.no_grad():
        for layer in model.model.language_model.layers:
            for projection in (layer.self_attn.q_proj, layer.self_attn.k_proj):
                projection.weight.mul_(3)
    model.set_attn_implementation("sdpa")
    model.generation_config.eos_token_id = None
    return model


@pytest.fixture(scope="module")
def inputs(model):
    generator = torch.Generator().manual_seed(6)
    adapter = adapter_for(model)
    height, width = adapter.grid
    words = torch.randint(6, model.config.text_config.vocab_size, (11,), generator=generator)
    video = torch.full((FRAMES * height * width + 1,), adapter.video_token_id)
    input_ids = torch.cat([words[:3], video, words[3:]])[None]
    still = torch.randn(1, 1, 3, SIDE, SIDE, generator=generator)
    pixels = still + 0.8 * torch.randn(1, FRAMES, 3, SIDE, SIDE, generator=generator)
    return {"input_ids": input_ids, "pixel_values_videos": pixels, "attention_mask": torch.ones_like(input_ids)}


@pytest.fixture(scope="module")
def dense(model, inputs):
    """A dense run with eager attention that gives away attentions and hidden states."""
    model.set_attn_implementation("eager")
    with torch.no_grad():
        outputs = model(**inputs, output_attentions=True, output_hidden_states=True)
    model.set_attn_implementation("sdpa")
    return outputs


def logits_of(model, inputs):
    with torch.no_grad():
        return model(**inputs).logits[0, -1]


def generate(model, inputs, tokens=4):
    return model.generate(**inputs, max_new_tokens=tokens, do_sample=False)


def hooks_of(model):
    kinds = ("_forward_hooks", "_forward_pre_hooks")
    return sum(len(getattr(module, kind)) for module in model.modules() for kind in kinds)


@pytest.mark.parametrize("keep_ratio", [0.1, 0.3, 0.75])
@pytest.mark.parametrize("rounding", ["even", "floor"])
def test_fastv_budget(model, inputs, keep_ratio, rounding):
    with Pruner(memory=FastV(2, keep_ratio, rounding, scale_layers=False))(model) as report:
        generate(model, inputs)
    visual = report.layout.visual
    kept = round(keep_ratio * visual) if rounding == "even" else int(keep_ratio * visual)
    assert report.visual_rows == report.visual_kv == [visual] * 2 + [kept] * (DEPTH - 2)
    assert report.reads == [report.visual_kv] * 3


@pytest.mark.parametrize("separator", ["keep", "withdraw"])
def test_vtw_budget(model, inputs, separator):
    with Pruner(memory=VTW(separator=separator))(model) as report:
        cache = model(**inputs).past_key_values
    visual = report.layout.visual
    assert report.visual_rows == report.visual_kv == [visual] * 3 + [0] * 3
    text = inputs["input_ids"].shape[1] - visual - (separator == "withdraw")
    assert [layer.stored_rows for layer in cache.layers] == [inputs["input_ids"].shape[1]] * 3 + [text] * 3


def test_prunevid_budget(model, inputs):
    with Pruner(memory=PruneVidAttention(0.4, 2, scale_layers=False))(model) as report:
        generate(model, inputs)
    layout = report.layout
    per_frame = layout.visual // FRAMES
    assert report.visual_rows == [layout.visual] * 3 + [FRAMES * int(0.4 * per_frame)] * 3
    assert report.visual_kv == [FRAMES * int(0.4 * per_frame)] * DEPTH
    kept_K = report.state.kept_K
    assert torch.equal(kept_K, kept_K.unique())
    assert set(torch.bincount(kept_K // per_frame).tolist()) == {int(0.4 * per_frame)}


def test_both_stages_of_prunevid(model, inputs):
    with Pruner(PruneVidMerge(), PruneVidAttention())(model) as report:
        generate(model, inputs)
    sizes = torch.bincount(report.layout.selection.group_K)
    assert report.visual_kv == [sum(int(0.4 * size) for size in sizes.tolist())] * DEPTH
    assert report.vr < 1


def test_dycoke_reads_a_part_and_holds_all(model, inputs):
    with Pruner(memory=DyCokeCache(2, 0.3, threshold=2, scale_layers=False))(model) as report:
        generate(model, inputs)
    visual = report.layout.visual
    assert report.visual_kv == [visual] * DEPTH
    assert report.reads == [[visual] * 2 + [int(0.3 * (visual - 1)) + 1] * 4] * 3
    assert report.kv_held == 1


def test_dycoke_reads_all_or_the_same_rows_where_nothing_changed(model, inputs):
    with Pruner(memory=DyCokeCache(threshold=-2))(model) as report:
        generate(model, inputs)
    assert report.mr == 1
    for on_similar in ("full", "reuse"):
        with Pruner(memory=DyCokeCache(threshold=1e-6, on_similar=on_similar))(model) as report:
            generate(model, inputs)
        assert sum(report.reads[0]) < sum(report.visual_kv)
        assert report.reads[1] == (report.visual_kv if on_similar == "full" else report.reads[0])


def test_dycoke_forgets_between_generations_unless_official(model, inputs):
    for official in (False, True):
        memory = DyCokeCache(official=official)
        with Pruner(memory=memory)(model) as report:
            generate(model, inputs, 2)
            generate(model, inputs, 2)
            assert (report.state.similarity > 0) == official


@pytest.mark.parametrize("keep_ratio", [0.2, 0.3, 0.6])
@pytest.mark.parametrize("similarity_threshold", [0.3, 0.6, 1.1])
def test_framefusion_meets_its_mean_over_layers(model, inputs, keep_ratio, similarity_threshold):
    with Pruner(memory=FrameFusion(keep_ratio, similarity_threshold))(model) as report:
        generate(model, inputs)
    assert report.kv_held == pytest.approx(keep_ratio, abs=1 / report.layout.visual)
    assert report.visual_kv == sorted(report.visual_kv, reverse=True)
    assert report.state.pruned


def kept_by(model, inputs, memory):
    """Rows that the deepest layer's cache holds after prefill."""
    kept = []
    memory = copy.copy(memory)
    keep_rows = memory.keep_rows

    def recorded(layer, site, state):
        selection = keep_rows(layer, site, state)
        kept.append(layer.alive_V if selection is None else selection.origin_K)
        return selection

    memory.keep_rows = recorded
    with Pruner(memory=memory)(model) as report:
        logits_of(model, inputs)
    return kept[-1], report


def best(scores_V, count):
    return scores_V.topk(count).indices.sort().values


def test_fastv_chooses_as_from_dense_attentions(model, inputs, dense):
    kept_K, report = kept_by(model, inputs, FastV(3, 0.3, scale_layers=False))
    scores_V = dense.attentions[2][0, :, -1].mean(0)[report.layout.start : report.layout.stop]
    torch.testing.assert_close(report.state["scores"], scores_V, rtol=0, atol=1e-5)
    assert torch.equal(kept_K, best(scores_V, len(kept_K)))


def test_framefusion_prunes_as_from_dense_attentions(model, inputs, dense):
    kept_K, report = kept_by(model, inputs, FrameFusion(0.3, similarity_threshold=1.1))
    scores_V = dense.attentions[0][0, :, -1].mean(0)[report.layout.start : report.layout.stop]
    assert torch.equal(kept_K, best(scores_V, len(kept_K)))


def test_prunevid_chooses_as_from_the_full_matrix(model, inputs, dense):
    kept_K, report = kept_by(model, inputs, PruneVidAttention(0.4, 2, scale_layers=False))
    layer, layout = model.model.language_model.layers[2], report.layout
    normed_ND = layer.input_layernorm(dense.hidden_states[2][0])
    width, heads = layer.self_attn.head_dim, layer.self_attn.q_proj.out_features // layer.self_attn.head_dim
    queries_HNE = layer.self_attn.q_proj(normed_ND).unflatten(-1, (-1, width)).transpose(0, 1)
    keys_GNE = layer.self_attn.k_proj(normed_ND).unflatten(-1, (-1, width)).transpose(0, 1)
    keys_HNE = keys_GNE.repeat_interleave(heads // len(keys_GNE), 0)
    full_HNN = (queries_HNE @ keys_HNE.mT * width**-0.5).softmax(-1)
    scores_V = full_HNN[:, layout.stop + 1 :, layout.start : layout.stop].amax((0, 1))
    frames_TP = scores_V.unflatten(0, (FRAMES, -1))
    picks_TK = frames_TP.topk(int(0.4 * frames_TP.shape[1])).indices
    expected_K = (picks_TK + torch.arange(FRAMES)[:, None] * frames_TP.shape[1]).flatten().sort().values
    assert torch.equal(kept_K, expected_K)


def test_dycoke_reads_as_from_dense_attentions(model, inputs, dense):
    token = dense.logits[0, -1].argmax()
    longer = {**inputs, "input_ids": torch.cat([inputs["input_ids"], token[None, None]], 1)}
    longer["attention_mask"] = torch.ones_like(longer["input_ids"])
    model.set_attn_implementation("eager")
    with torch.no_grad():
        row_HN = model(**longer, output_attentions=True).attentions[1][0, :, -1]
    model.set_attn_implementation("sdpa")
    with Pruner(memory=DyCokeCache(2, 0.3, scale_layers=False))(model) as report:
        generate(model, inputs, 2)
    layout, read_K = report.layout, report.state.read_K
    scores_V = row_HN.mean(0)[layout.start : layout.stop - 1]
    assert torch.equal(read_K[:-1], best(scores_V, int(0.3 * len(scores_V))))
    assert read_K[-1] == layout.visual - 1


@pytest.mark.parametrize("memory", METHODS, ids=name_of)
def test_any_memory_stage_follows_a_visual_stage(model, inputs, memory):
    with Pruner(VisualSharpV(), memory)(model) as report:
        generate(model, inputs)
    assert report.vr < 1
    assert report.mr < 1


@pytest.mark.parametrize("separator", ["keep", "withdraw"])
def test_the_calibration_of_vtw_equals_full_runs(model, inputs, dense, separator):
    hooks = hooks_of(model)
    found_C = withdrawal_divergence(adapter_for(model), inputs, 2, separator)
    assert hooks_of(model) == hooks
    logits = []
    for layer in range(2, DEPTH):
        with Pruner(memory=VTW(layer, separator, scale_layers=False))(model):
            logits.append(logits_of(model, inputs))
    expected_C = divergence(torch.stack(logits), dense.logits[0, -1])
    torch.testing.assert_close(found_C, expected_C, rtol=1e-3, atol=1e-5)
    assert bool((expected_C > 0).all())


def test_the_first_layer_under_the_bound_wins():
    divergence_SC = torch.tensor([[0.5, 0.1, 0.4, 0.1], [0.5, 0.3, 0.4, 0.1]])
    assert choose_layer(divergence_SC, 0.21) == 6
    assert choose_layer(divergence_SC, 0.15, first=1) == 4
    with pytest.raises(ValueError, match=r"smallest mean divergence is 1\.00e-01"):
        choose_layer(divergence_SC, 0.05)


@pytest.mark.parametrize("method", [FastV, VTW, PruneVidAttention, DyCokeCache])
@pytest.mark.parametrize("setting", [{"layer": 28}, {"layer": DEPTH, "scale_layers": False}])
def test_a_setting_that_prunes_nothing_is_refused(model, method, setting):
    hooks = hooks_of(model)
    with pytest.raises(ValueError, match="nothing would be pruned"), Pruner(memory=method(**setting))(model):
        pass
    assert hooks_of(model) == hooks


@pytest.mark.parametrize("method", [FastV, PruneVidAttention, DyCokeCache, FrameFusion])
@pytest.mark.parametrize("keep_ratio", [0, 1.2, -0.1])
def test_a_share_outside_its_range_is_refused(method, keep_ratio):
    with pytest.raises(ValueError, match="keep_ratio"):
        method(keep_ratio=keep_ratio)


@pytest.mark.parametrize(("method", "layer"), [(FastV, 0), (VTW, -1), (PruneVidAttention, -1), (DyCokeCache, 0)])
def test_a_layer_before_the_first_is_refused(method, layer):
    with pytest.raises(ValueError, match=f"layer={layer}"):
        method(layer=layer)


def test_a_look_at_the_first_layer_cuts_every_cache(model, inputs):
    with Pruner(memory=PruneVidAttention(layer=0))(model) as report:
        generate(model, inputs)
    kept = len(report.state.kept_K)
    assert 0 < kept < report.layout.visual
    assert report.visual_rows == [report.layout.visual] + [kept] * (DEPTH - 1)
    assert report.visual_kv == [kept] * DEPTH


def test_a_look_at_the_last_layer_cuts_every_cache(model, inputs):
    with Pruner(memory=PruneVidAttention(layer=DEPTH - 1, scale_layers=False))(model) as report:
        generate(model, inputs)
    assert report.visual_rows == [report.layout.visual] * DEPTH
    assert report.visual_kv == [len(report.state.kept_K)] * DEPTH


def test_withdrawal_at_the_first_layer_leaves_text_alone(model, inputs):
    with Pruner(memory=VTW(layer=0))(model) as report:
        pruned = logits_of(model, inputs)
    assert report.visual_rows == report.visual_kv == [0] * DEPTH
    other = {**inputs, "pixel_values_videos": torch.randn_like(inputs["pixel_values_videos"])}
    with Pruner(memory=VTW(layer=0))(model):
        torch.testing.assert_close(logits_of(model, other), pruned)


def test_a_video_at_the_end_of_the_prompt_has_no_question(model, inputs):
    video = (inputs["input_ids"] == adapter_for(model).video_token_id)[0].nonzero().max() + 1
    cut = {**inputs, "input_ids": inputs["input_ids"][:, :video], "attention_mask": inputs["attention_mask"][:, :video]}
    with pytest.raises(ValueError, match="no text comes after"), Pruner(memory=PruneVidAttention())(model):
        logits_of(model, cut)

"""What batches are refused, what beams and several samples do, and what the report says: before any family is asked."""

import pytest
import torch
from test_batches import answer, llava_onevision, padded
from torch.nn import functional

from sharpv import Pruner, SharpV, VisualSharpV
from sharpv.runtime.cache import PrunableLayer


@pytest.fixture(scope="module")
def onevision(model, inputs):
    """Two calls and the batch of both."""
    return llava_onevision(model, inputs)


@pytest.mark.parametrize("pruner", [Pruner(VisualSharpV()), SharpV()], ids=["visual", "both"])
def test_a_prompt_alone_may_be_padded_on_the_left(model, onevision, pruner):
    (call, _), _ = onevision
    ids = functional.pad(call["input_ids"], (7, 0))
    mask = functional.pad(torch.ones_like(call["input_ids"]), (7, 0))
    behind = {**call, "input_ids": ids, "attention_mask": mask}
    with pruner(model):
        expected, _ = answer(model, call)
        logits, _ = answer(model, behind)
    torch.testing.assert_close(logits, expected, atol=2e-4, rtol=1e-4)


def test_padding_on_the_right_is_refused_with_the_way_out(model, onevision):
    calls, both = onevision
    right = padded([call["input_ids"][0] for call in calls], left=False)
    with pytest.raises(ValueError, match="padding_side='left'"), Pruner(VisualSharpV())(model):
        answer(model, {**both, **right})


@pytest.mark.parametrize("settings", [{"num_beams": 3}, {"num_beams": 2, "num_return_sequences": 2}], ids=str)
def test_beams_search_behind_the_pruned_prompt(model, onevision, settings):
    """The reference is the stock model on the embeddings that a pruned run feeds."""
    (call, _), _ = onevision
    fed = []
    with Pruner(VisualSharpV())(model):
        layer = model.model.language_model.layers[0]
        watch = layer.register_forward_pre_hook(lambda module, args: fed.append(args[0]))
        answer(model, call, max_new_tokens=1)
        watch.remove()
        _, found = answer(model, call, max_new_tokens=8, **settings)
    expected = model.generate(inputs_embeds=fed[0], max_new_tokens=8, do_sample=False, **settings)
    assert torch.equal(found, expected)


def test_several_samples_of_one_prompt_start_from_the_same_logits(model, onevision):
    (call, _), _ = onevision
    with Pruner(VisualSharpV())(model) as report:
        logits, tokens = answer(model, call, do_sample=True, num_return_sequences=3)
    assert len(report.videos) == len(tokens) == 3
    torch.testing.assert_close(logits[:, 0], logits[:1, 0].expand(3, -1), atol=2e-4, rtol=1e-4)


def test_beams_behind_a_memory_stage_are_refused_with_what_goes(model, onevision):
    (call, _), _ = onevision
    with pytest.raises(ValueError, match="num_return_sequences"), SharpV()(model):
        answer(model, call, num_beams=2)
    with SharpV()(model) as report:
        _, tokens = answer(model, call, do_sample=True, num_return_sequences=2)
    assert len(report.videos) == len(tokens) == 2


def test_a_memory_stage_in_a_batch_needs_masks_a_layer(model, onevision, monkeypatch):
    _, both = onevision
    monkeypatch.setattr(model.model.language_model.config, "_attn_implementation", "flash_attention_2")
    with pytest.raises(ValueError, match="MemorySharpV in a batch.*'sdpa'"), SharpV()(model):
        answer(model, both)


def test_a_report_of_a_batch_sends_to_its_samples(model, onevision):
    (call, _), both = onevision
    with Pruner(VisualSharpV())(model) as report:
        answer(model, both)
        with pytest.raises(ValueError, match="report.videos"):
            _ = report.vr
        assert [sample.mr for sample in report.videos] == [1, 1]
        assert report.kv_bytes > 0
        assert str(report).count("visual tokens fed") == 2
        assert str(report).count("KV cache: ") == str(report).count("seconds: ") == 1
        answer(model, call)
    assert not report.videos
    assert 0 < report.vr < 1


def test_pllava_refuses_a_batch_with_the_reason(pllava_model, pllava_inputs):
    both = {name: tensor.repeat(2, *[1] * (tensor.ndim - 1)) for name, tensor in pllava_inputs.items()}
    with (
        pytest.raises(ValueError, match="Pllava pools all pictures.*one after another"),
        Pruner(VisualSharpV())(pllava_model),
    ):
        answer(pllava_model, both)


@pytest.mark.parametrize(
    ("move", "rows"),
    [("reorder_cache", [1, 0]), ("batch_select_indices", [1]), ("batch_repeat_interleave", [0, 0, 1, 1])],
)
def test_rows_of_a_cache_that_change_places_take_their_past_along(move, rows):
    """The first row appended makes the spare room that must not outlive the move."""
    layer, past = PrunableLayer(), torch.arange(2.0)[:, None, None, None].expand(2, 1, 3, 4).clone()
    layer.update(past, past)
    layer.update(past[:, :, :1], past[:, :, :1])
    getattr(layer, move)(2 if move == "batch_repeat_interleave" else torch.tensor(rows))
    new = torch.full((len(rows), 1, 1, 4), 9.0)
    for states in layer.update(new, new):
        assert states[:, 0, :, 0].tolist() == [[row] * 4 + [9] for row in rows]

"""What `with Pruner(...)(model)` promises around the call itself: the right cache, one thread, context and prompt."""

import threading

import pytest
import torch
from test_runtime import DropLayers, dense
from transformers.cache_utils import DynamicCache, DynamicLayer

from sharpv import MemorySharpV, Pruner, SharpV
from sharpv.models import adapter_for
from sharpv.pruners.base import MemoryPruner, VisualPruner
from sharpv.runtime.cache import CACHE_NAMES, cache_argument
from sharpv.tokens import Selection


def cache_of(output):
    return next(output[name] for name in CACHE_NAMES if name in output)


@pytest.mark.parametrize("tokens", [1, 3])
def test_a_memory_stage_cuts_the_cache_that_generate_returns(model, inputs, tokens):
    with Pruner(memory=DropLayers({1, 3}, reencode=True))(model) as report:
        out = model.generate(**inputs, max_new_tokens=tokens, do_sample=False, return_dict_in_generate=True)
    rows = inputs["input_ids"].shape[1]
    text = rows - report.layout.visual
    stored = [layer.keys.shape[-2] for layer in cache_of(out).layers]
    assert stored == [rows + tokens - 1, text + tokens - 1] * 2


def test_a_cache_of_another_kind_of_hand_over_is_noticed(model, inputs, monkeypatch):
    """A version of transformers that gives its layers another cache than the one it was given."""
    layers = model.model.language_model.layers
    orphan = DynamicCache(config=model.model.language_model.config)
    name = cache_argument(layers[0])

    def elsewhere(module, args, kwargs):
        return args, kwargs | {name: orphan}

    with SharpV()(model):
        handles = [layer.register_forward_pre_hook(elsewhere, with_kwargs=True) for layer in layers]
        try:
            with pytest.raises(ValueError, match="another cache than the one that pruning cuts"):
                model.generate(**inputs, max_new_tokens=1)
        finally:
            for handle in handles:
                handle.remove()


def test_a_pruned_cache_is_refused_after_the_context(model, inputs):
    with SharpV()(model):
        out = model.generate(**inputs, max_new_tokens=2, return_dict_in_generate=True)
    cache, turn = cache_of(out), torch.tensor([[5, 6, 7]])
    with pytest.raises(ValueError, match="pruned by a generation that has ended"):
        model.generate(
            input_ids=torch.cat([out.sequences, turn], 1), **{cache_argument(model): cache}, max_new_tokens=2
        )


def test_the_cache_of_the_generation_before_is_refused_inside_the_context(model, inputs):
    with SharpV()(model):
        first = cache_of(model.generate(**inputs, max_new_tokens=2, return_dict_in_generate=True))
        model.generate(**inputs, max_new_tokens=2)
    assert all(layer.closed for layer in first.layers)
    assert type(first.layers[0]) is not DynamicLayer


def test_another_thread_is_refused_and_this_one_goes_on(model, inputs):
    errors = []

    def asks():
        try:
            model.generate(**inputs, max_new_tokens=2)
        except ValueError as error:
            errors.append(str(error))

    with SharpV(memory=MemorySharpV(threshold=0.9))(model):
        expected = model.generate(**inputs, max_new_tokens=4)
        thread = threading.Thread(target=asks)
        thread.start()
        thread.join()
        again = model.generate(**inputs, max_new_tokens=4)
    assert len(errors) == 1
    assert "another thread holds this model" in errors[0]
    assert torch.equal(expected, again)


def test_a_second_context_on_the_same_model_is_refused(model, inputs):
    expected = dense(model, inputs)
    with SharpV()(model), pytest.raises(ValueError, match="inside a pruning context already"), SharpV()(model):
        pass
    assert torch.equal(dense(model, inputs)[0], expected[0])


def test_labels_are_refused(model, inputs):
    with SharpV()(model), pytest.raises(ValueError, match="no rows for labels"):
        model(**inputs, labels=inputs["input_ids"])


def test_the_inner_model_and_the_decoder_alone_are_refused(model, inputs):
    embeddings = torch.zeros(1, 4, model.config.text_config.hidden_size)
    with SharpV()(model):
        with pytest.raises(ValueError, match="called without the whole model"):
            model.model(**inputs)
        with pytest.raises(ValueError, match="called without the whole model"):
            model.model.language_model(inputs_embeds=embeddings)


def test_two_videos_side_by_side_are_named(model, inputs):
    ids, video = inputs["input_ids"], adapter_for(model).video_token_id
    places = (ids[0] == video).nonzero().flatten()
    twice = torch.cat([ids[:, : places[-1] + 1], ids[:, places[0] :]], 1)
    pixels = inputs["pixel_values_videos"].repeat(2, 1, 1, 1, 1)
    with SharpV()(model), pytest.raises(ValueError, match="several videos"):
        model.generate(input_ids=twice, pixel_values_videos=pixels, max_new_tokens=2)


class DropsTwice(MemoryPruner):
    """Halves the visual rows on entering layers 1 and 3."""

    def keep_rows(self, layer, site, state):
        if layer.index not in (1, 3):
            return None
        return Selection(layer.alive_V[::2], positions="original")


def test_rows_can_be_dropped_at_several_layers(model, inputs):
    with Pruner(memory=DropsTwice())(model) as report:
        model.generate(**inputs, max_new_tokens=3)
    full = report.layout.visual
    half = (full + 1) // 2
    assert report.visual_rows == [full, half, half, (half + 1) // 2]


class Returning(VisualPruner):
    """A stage of somebody's own, which returns what it was given."""

    def __init__(self, found):
        self.found = found

    def select(self, video):
        return self.found


TOKENS = torch.arange(9)


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (TOKENS, "gave Tensor, not a sharpv.tokens.Selection"),
        (Selection(TOKENS.int()), r"origin_K of torch.int32.*int64 index"),
        (Selection(torch.ones(288, dtype=torch.bool)), r"origin_K of torch.bool.*mask_N.nonzero"),
        (Selection(TOKENS[None]), r"shape \(1, 9\)"),
        (Selection(TOKENS, torch.zeros(8, 2)), r"features_KD of shape \(8, 2\) with origin_K of 9"),
        (Selection(TOKENS, assign_N=TOKENS), r"assign_N of shape \(9,\) for a video of 288"),
        (Selection(TOKENS + 288), "origin_K from 288 to 296 for a video of 288 tokens"),
        (Selection(TOKENS - 1), "origin_K from -1 to 7"),
        (Selection(torch.zeros_like(TOKENS)), "a token twice in origin_K"),
    ],
)
def test_a_selection_of_which_no_prompt_can_be_made_names_its_stage_and_the_rule(model, inputs, found, told):
    with (
        Pruner(Returning(found))(model),
        pytest.raises(ValueError, match=rf"test_front_door.Returning.select .*{told}"),
    ):
        model.generate(**inputs, max_new_tokens=1)


def test_a_selection_of_somebodys_own_stage_is_fed_where_it_is_one(model, inputs):
    with Pruner(Returning(Selection(TOKENS)))(model) as report:
        model.generate(**inputs, max_new_tokens=1)
    assert report.layout.visual == 9

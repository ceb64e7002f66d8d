"""The runtime on stock models: identity, explicit references, what shrinks, what is restored, what is refused."""

import pytest
import torch

from sharpv import MemorySharpV, Pruner, SharpV, VisualSharpV
from sharpv.models import adapter_for
from sharpv.pruners.base import MemoryPruner, VisualPruner
from sharpv.pruners.view import KeepCache
from sharpv.runtime.attach import layer_hooks
from sharpv.runtime.cache import given_cache
from sharpv.runtime.decode import Greedy, generate
from sharpv.runtime.prompt import feed, find_span
from sharpv.tokens import Selection, keep_all

STEPS = 6


class KeepAll(VisualPruner):
    def select(self, video):
        return keep_all(video)


class KeepAllOriginal(VisualPruner):
    def select(self, video):
        return Selection(keep_all(video).origin_K, positions="original")


class DropLayers(MemoryPruner):
    """Drops the visual KV of some layers, to be compared with an explicit reference."""

    def __init__(self, layers, reencode, in_prefill=False):
        self.layers, self.reencode, self.in_prefill = layers, reencode, in_prefill

    def keep_cache(self, layer, state):
        if layer.index not in self.layers:
            return None
        return {layer.index: KeepCache(layer.alive_V[:0], self.reencode, self.in_prefill)}


class HalveRows(MemoryPruner):
    """Drops every second visual row that is left, at each (site, layer) named."""

    sites = ("enter", "attended")

    def __init__(self, *at):
        self.at = at

    def keep_rows(self, layer, site, state):
        return Selection(layer.alive_V[::2], positions="original") if (site, layer.index) in self.at else None


def greedy_logits(model, inputs, pruner):
    """Logits of every step and the tokens of a plain generate under a pruner."""
    with pruner(model) as report:
        out = model.generate(
            **inputs, max_new_tokens=STEPS, do_sample=False, return_dict_in_generate=True, output_logits=True
        )
    return torch.stack(out.logits)[:, 0], out.sequences[0, inputs["input_ids"].shape[1] :], report


def dense(model, inputs):
    out = model.generate(
        **inputs, max_new_tokens=STEPS, do_sample=False, return_dict_in_generate=True, output_logits=True
    )
    return torch.stack(out.logits)[:, 0], out.sequences[0, inputs["input_ids"].shape[1] :]


@pytest.mark.parametrize("visual", [KeepAll(), KeepAllOriginal(), None])
@pytest.mark.parametrize(
    "memory", [MemorySharpV(threshold=-2.0), MemorySharpV(threshold=-2.0, acts="in_prefill"), None]
)
def test_keeping_everything_gives_the_dense_logits_bit_for_bit(model, inputs, visual, memory):
    logits, tokens, report = greedy_logits(model, inputs, Pruner(visual, memory))
    expected, expected_tokens = dense(model, inputs)
    assert torch.equal(logits, expected)
    assert torch.equal(tokens, expected_tokens)
    assert (report.vr, report.mr, report.kv_held) == (1.0, 1.0, 1.0)


def rotated(states, cos, sin):
    half = states.shape[-1] // 2
    return states * cos + torch.cat((-states[..., half:], states[..., :half]), -1) * sin


def explicit_logits(model, fed, tokens, dropped, reencode, in_prefill, alive=None):
    """One full-length pass without any cache: per layer, each row attends to exactly the keys that it may see.

    alive: by layer, the visual rows that are left of those dropped; none at all unless given."""
    language = model.model.language_model
    config = language.config
    layout, total = fed.layout, fed.embeddings_BLD.shape[1] + len(tokens) - 1
    states = torch.cat([fed.embeddings_BLD, language.embed_tokens(tokens[None, :-1])], 1)[0]
    positions = torch.arange(total)
    is_new = positions >= layout.length
    is_visual = (positions >= layout.start) & (positions < layout.stop)
    groups = config.num_attention_heads // config.num_key_value_heads
    for index, layer in enumerate(language.layers):
        attention, normed = layer.self_attn, layer.input_layernorm(states)
        query, key, value = (
            projection(normed).unflatten(-1, (-1, attention.head_dim)).transpose(0, 1)
            for projection in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        key, value = key.repeat_interleave(groups, 0), value.repeat_interleave(groups, 0)
        seen = positions[:, None] >= positions
        shifted = positions
        if index in dropped:
            is_gone = is_visual.clone()
            is_gone[layout.start + (alive or {}).get(index, torch.arange(0))] = False
            seen = seen & ~((is_new | in_prefill)[:, None] & is_gone)
            shifted = positions + (layout.visual if reencode else 0) * (positions < layout.start)
        weights = torch.empty(query.shape[0], total, total)
        for rows, places in ((~is_new, positions), (is_new, shifted)):
            cos, sin = (part[0] for part in language.rotary_emb(states[None], positions[None]))
            key_cos, key_sin = (part[0] for part in language.rotary_emb(states[None], places[None]))
            scores = rotated(query, cos, sin) @ rotated(key, key_cos, key_sin).transpose(-1, -2)
            weights[:, rows] = (scores * attention.scaling)[:, rows]
        weights = weights.masked_fill(~seen, -torch.inf).softmax(-1)
        states = states + attention.o_proj((weights @ value).transpose(0, 1).flatten(1))
        states = states + layer.mlp(layer.post_attention_layernorm(states))
    return model.lm_head(language.norm(states)[layout.length - 1 :])


def fed_prompt(model, inputs, visual):
    """The prompt that a pruned run feeds."""
    adapter = adapter_for(model)
    embeddings = model.get_input_embeddings()(inputs["input_ids"])
    vision = adapter.encode(inputs["pixel_values_videos"][0])
    span = find_span(adapter, inputs["input_ids"])
    span.write(embeddings[0], vision.tokens_TPD, vision.separator_D)
    return feed(embeddings, span, 4, visual, 0)


@pytest.mark.parametrize("in_prefill", [False, True])
@pytest.mark.parametrize("reencode", [False, True])
@pytest.mark.parametrize("dropped", [{0}, {1, 3}, {0, 1, 2, 3}])
@torch.inference_mode()
def test_decoding_equals_an_explicit_per_layer_masked_recomputation(model, inputs, dropped, reencode, in_prefill):
    pruner = Pruner(VisualSharpV(), DropLayers(dropped, reencode, in_prefill))
    logits, tokens, report = greedy_logits(model, inputs, pruner)
    fed = fed_prompt(model, inputs, VisualSharpV())
    expected = explicit_logits(model, fed, tokens, dropped, reencode, in_prefill)
    torch.testing.assert_close(logits, expected, atol=2e-4, rtol=1e-4)
    assert [held == 0 for held in report.visual_kv] == [index in dropped for index in range(4)]


@pytest.mark.parametrize(
    "at",
    [
        [("enter", 1), ("enter", 2)],
        [("enter", 0), ("enter", 1), ("enter", 2), ("enter", 3)],
        [("attended", 0), ("enter", 1), ("attended", 1), ("enter", 3)],
        [("attended", 0), ("attended", 1), ("attended", 2)],
    ],
    ids=str,
)
@torch.inference_mode()
def test_rows_may_be_dropped_any_number_of_times_at_either_site(model, inputs, at):
    logits, tokens, report = greedy_logits(model, inputs, Pruner(VisualSharpV(), HalveRows(*at)))
    fed = fed_prompt(model, inputs, VisualSharpV())
    left, alive = torch.arange(fed.layout.visual), {}
    for index in range(4):
        left = left[:: 2 if ("enter", index) in at else 1]
        alive[index] = left
        left = left[:: 2 if ("attended", index) in at else 1]
    expected = explicit_logits(model, fed, tokens, alive, False, True, alive)
    torch.testing.assert_close(logits, expected, atol=2e-4, rtol=1e-4)
    assert report.visual_rows == report.visual_kv == [len(left) for left in alive.values()]


def test_the_first_token_does_not_depend_on_a_memory_stage_that_acts_after_prefill(model, inputs):
    expected, _ = dense(model, inputs)
    logits, _, _ = greedy_logits(model, inputs, Pruner(None, DropLayers({0, 1, 2, 3}, reencode=True)))
    assert torch.equal(logits[0], expected[0])
    assert not torch.allclose(logits[1], expected[1])


def test_reencoded_and_kept_positions_differ(model, inputs):
    kept, _, _ = greedy_logits(model, inputs, Pruner(None, DropLayers({1}, reencode=False)))
    moved, _, _ = greedy_logits(model, inputs, Pruner(None, DropLayers({1}, reencode=True)))
    assert not torch.allclose(kept[1], moved[1])


def test_cache_lengths_and_bytes_shrink_layer_by_layer_during_prefill(model, inputs):
    held = []

    def watch(module, args, kwargs, output):
        cache = given_cache(kwargs)
        if output.shape[1] > 1:
            held.append([layer.stored_bytes for layer in cache.layers])

    handles = [layer.register_forward_hook(watch, with_kwargs=True) for layer in model.model.language_model.layers]
    with Pruner(None, DropLayers({1, 2}, reencode=True))(model) as report:
        model.generate(**inputs, max_new_tokens=2)
    for handle in handles:
        handle.remove()
    text = inputs["input_ids"].shape[1] - report.layout.visual
    row_bytes = 2 * 2 * 32 * 4
    full, cut = (text + report.layout.visual) * row_bytes, text * row_bytes
    assert held == [[full, 0, 0, 0], [full, cut, 0, 0], [full, cut, cut, 0], [full, cut, cut, full]]
    assert report.kv_bytes == 2 * full + 2 * cut
    assert report.mr == 0.5


def hooks_of(model):
    return [
        (name, len(module._forward_hooks), len(module._forward_pre_hooks), id(module.forward.__func__))
        for name, module in model.named_modules()
    ]


def test_the_model_is_as_before_after_the_context_and_after_an_exception(model, inputs):
    before, expected = hooks_of(model), dense(model, inputs)
    weights = {name: parameter.clone() for name, parameter in model.named_parameters()}
    with SharpV()(model):
        model.generate(**inputs, max_new_tokens=2)

    class Fails(MemoryPruner):
        def keep_cache(self, layer, state):
            if layer.index == 2:
                raise KeyError("on purpose")
            return {layer.index: KeepCache(layer.alive_V[:0])}

    with pytest.raises(KeyError, match="on purpose"), Pruner(VisualSharpV(), Fails())(model):
        model.generate(**inputs, max_new_tokens=2)
    assert hooks_of(model) == before
    assert all(torch.equal(weights[name], parameter) for name, parameter in model.named_parameters())
    after = dense(model, inputs)
    assert all(torch.equal(one, other) for one, other in zip(after, expected, strict=True))


def test_inputs_are_not_changed_and_ids_come_back_as_generate_returns_them(model, inputs):
    before = {name: tensor.clone() for name, tensor in inputs.items()}
    with SharpV()(model):
        out = model.generate(**inputs, max_new_tokens=3)
    assert all(torch.equal(before[name], tensor) for name, tensor in inputs.items())
    assert torch.equal(out[:, :-3], inputs["input_ids"])


@pytest.mark.parametrize("visual", [None, VisualSharpV()])
@pytest.mark.parametrize("memory", [None, MemorySharpV(threshold=0.9)])
@torch.inference_mode()
def test_lean_decoding_gives_the_tokens_of_generate(model, inputs, visual, memory):
    _, expected, _ = greedy_logits(model, inputs, Pruner(visual, memory))
    adapter = adapter_for(model)
    vision = adapter.encode(inputs["pixel_values_videos"][0])
    embeddings = model.get_input_embeddings()(inputs["input_ids"])
    span = find_span(adapter, inputs["input_ids"])
    span.write(embeddings[0], vision.tokens_TPD, vision.separator_D)

    class NoClock:
        def mark(self, stage):
            return None

    with layer_hooks(adapter) as hooks:
        fed = feed(embeddings, span, 4, visual, 0)
        ids, _ = generate(adapter, hooks, fed, memory, Greedy(STEPS, frozenset()), NoClock())
    assert ids == expected.tolist()


@torch.inference_mode()
def test_the_repetition_penalty_counts_generated_tokens_only_as_generate_on_embeddings_does(model, inputs):
    adapter = adapter_for(model)
    vision = adapter.encode(inputs["pixel_values_videos"][0])
    embeddings = model.get_input_embeddings()(inputs["input_ids"])
    span = find_span(adapter, inputs["input_ids"])
    span.write(embeddings[0], vision.tokens_TPD, vision.separator_D)
    expected = model.generate(inputs_embeds=embeddings, max_new_tokens=STEPS, do_sample=False, repetition_penalty=1.3)

    class NoClock:
        def mark(self, stage):
            return None

    with layer_hooks(adapter) as hooks:
        greedy = Greedy(STEPS, frozenset(), repetition_penalty=1.3)
        ids, _ = generate(adapter, hooks, feed(embeddings, span, 4, None, 0), None, greedy, NoClock())
    assert ids == expected[0].tolist()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_beams": 2}, "beams"),
        ({"cache_implementation": "static"}, "DynamicCache"),
        ({"prefill_chunk_size": 64}, "prefill_chunk_size"),
        ({"prompt_lookup_num_tokens": 3, "max_new_tokens": 8}, "prompt_lookup_num_tokens"),
        ({"use_cache": False}, "use_cache=True"),
    ],
)
def test_what_does_not_generate_row_by_row_on_one_growing_cache_is_refused(model, inputs, settings, message):
    with pytest.raises(ValueError, match=message), SharpV()(model):
        model.generate(**inputs, **{"max_new_tokens": 2} | settings)


def test_a_prompt_without_video_is_refused(model, inputs):
    with pytest.raises(ValueError, match="no video token"), SharpV()(model):
        model.generate(input_ids=inputs["input_ids"][:, -5:], max_new_tokens=2)


def test_eager_attention_is_refused_with_the_reason(model, inputs):
    language = model.model.language_model
    language.config._attn_implementation = "eager"
    try:
        with pytest.raises(ValueError, match="eager"), SharpV()(model):
            pass
    finally:
        language.config._attn_implementation = "sdpa"


def test_a_second_generation_in_one_context_starts_afresh(model, inputs):
    with SharpV(memory=MemorySharpV(threshold=0.9))(model) as report:
        first = model.generate(**inputs, max_new_tokens=4)
        reads = [list(step) for step in report.reads]
        second = model.generate(**inputs, max_new_tokens=4)
    assert torch.equal(first, second)
    assert report.reads == reads


@pytest.mark.parametrize("number", ["vr", "mr", "kv_held", "token_budget"])
def test_a_report_read_before_any_generation_says_so(model, number):
    with SharpV()(model) as report, pytest.raises(ValueError, match="generate inside the context"):
        getattr(report, number)

"""Prompts padded on the left give what they give one by one, under every visual stage and in every family."""

import pytest
import torch
from families import FRAMES, QUESTION, SIDE, EncodedAtTheCall, still_with_noise
from methods import VISUAL, pruner_of
from test_all_methods import SIGLIP, family, made, model  # noqa: F401

from sharpv import Pruner, SharpV, VisualSharpV
from sharpv.models import adapter_for
from sharpv.models.clip import Clip
from sharpv.pruners.fastvid import FastVID

LONGER = [*QUESTION, 12, 13, 14]


def padded(ids: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    """Prompts of different length as a batch padded on the left."""
    length = max(len(one) for one in ids)
    rows = [torch.nn.functional.pad(one, (length - len(one), 0)) for one in ids]
    masks = [torch.arange(length) >= length - len(one) for one in ids]
    return {"input_ids": torch.stack(rows), "attention_mask": torch.stack(masks).long()}


def pair_of_prompts(family, model, inputs):
    """Two calls and the batch of both. The videos differ, in length too where the family's stock call takes that."""
    first = inputs["input_ids"][0]
    if family in ("llava_onevision",):
        second = torch.cat([first[:-2], torch.tensor(LONGER)])
        video = inputs["pixel_values_videos"]
        other = video.flip(1).roll(5, dims=-1)
        calls = [
            {"input_ids": one[None], "attention_mask": torch.ones_like(one)[None], "pixel_values_videos": pixels}
            for one, pixels in ((first, video), (second, other))
        ]
        return calls, padded([first, second]) | {"pixel_values_videos": torch.cat([video, other])}
    adapter, frames = adapter_for(model), FRAMES - 2
    if family == "llava_video":
        clip = inputs.clip
        other = Clip(still_with_noise(*clip.values_TX.shape[1:])[2:].flip(-1), tuple(map(float, range(frames))))
        joined = Clip(torch.cat([clip.values_TX, other.values_TX]), tuple(map(float, range(FRAMES + frames))))
        rows = adapter.arranged(frames, (SIDE, SIDE)).rows
        second = torch.tensor([*first[:4], *[199] * rows, *LONGER])
        calls = [EncodedAtTheCall(adapter, one[None], its) for one, its in ((first, clip), (second, other))]
        batch = padded([first, second])
        both = EncodedAtTheCall(adapter, batch["input_ids"], joined)
        both.given["attention_mask"] = batch["attention_mask"]
        return calls, both
    is_video = first == adapter.video_token_id
    gone = int(is_video.nonzero()[2 * SIDE**2 - 1]) - 4 + 1
    # Qwen3-VL closes each frame by a token of its own; the one of the last frame that goes is behind its tokens.
    head = [*first[:5]] if family == "qwen2_5_vl" else [*first[:4]]
    skip = 4 + gone + (0 if family == "qwen2_5_vl" else 1)
    second = torch.tensor([*head, *first[skip:-4], *LONGER])
    assert int((second == adapter.video_token_id).sum()) == frames * SIDE**2
    merged = SIDE * adapter.merge
    other = Clip(
        inputs["pixel_values_videos"].unflatten(0, (FRAMES, -1))[2:].flip(-1),
        tuple(map(float, range(frames))),
        grid=(merged, merged),
    )
    calls = [inputs, adapter.call(second[None], other)]
    both = padded([first, second])
    for name in calls[0]:
        if name not in both:
            both[name] = torch.cat([calls[0][name], calls[1][name]])
    both["mm_token_type_ids"] = 2 * (both["input_ids"] == adapter.video_token_id).int()
    return calls, both


@pytest.fixture(scope="module")
def prompts(family, model, made):  # noqa: F811
    if family == "pllava":
        pytest.skip("refused, see test_pllava_refuses_a_batch")
    return pair_of_prompts(family, model, made[1])


def answer(model, call, **settings):  # noqa: F811
    settings = {"max_new_tokens": 3, "do_sample": False} | settings
    out = model.generate(**call, **settings, return_dict_in_generate=True, output_logits=True)
    return torch.stack(out.logits, 1), out.sequences[:, call["input_ids"].shape[1] :]


@pytest.mark.parametrize("method", VISUAL, ids=repr)
def test_a_batch_gives_what_its_samples_give_one_by_one(model, family, prompts, method):  # noqa: F811
    if isinstance(method.stage, FastVID) and family not in SIGLIP:
        pytest.skip("FastVID needs SigLIP's pooling head")
    calls, both = prompts
    with pruner_of(method.stage)(model) as report:
        alone = []
        for call in calls:
            alone.append((*answer(model, call), report.vr, report.layout))
        logits, tokens = answer(model, both)
    for sample, (its_logits, its_tokens, its_vr, its_layout) in enumerate(alone):
        found = report.samples[sample]
        assert found.vr == its_vr
        assert torch.equal(found.layout.visual_V, its_layout.visual_V)
        torch.testing.assert_close(logits[sample], its_logits[0], atol=2e-4, rtol=1e-4)
        assert torch.equal(tokens[sample], its_tokens[0])


def test_padding_is_to_the_longest_pruned_prompt(model, prompts):  # noqa: F811
    seen = []
    layer = model.model.language_model.layers[0]
    with SharpV(memory=None)(model) if False else Pruner(VisualSharpV())(model) as report:
        handle = layer.register_forward_pre_hook(lambda module, args: seen.append(args[0].shape[1]))
        answer(model, prompts[1])
        handle.remove()
    assert seen[0] == max(sample.layout.length for sample in report.samples) < prompts[1]["input_ids"].shape[1]

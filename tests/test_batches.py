"""Prompts padded on the left give what they give one by one, under every method and in every family."""

import copy

import pytest
import torch
from families import FAMILIES, FRAMES, QUESTION, SIDE, SYSTEM, EncodedAtTheCall
from methods import MEMORY, VISUAL, pruner_of
from test_all_methods import SIGLIP, made, model  # noqa: F401
from torch.nn import functional

from sharpv import Pruner, VisualSharpV
from sharpv.models import adapter_for
from sharpv.models.clip import Clip
from sharpv.pruners.fastvid import FastVID
from sharpv.pruners.visionzip import VisionZip

LONGER = [*QUESTION, 12, 13, 14]
FEWER = FRAMES - 2
CUT = {"qwen2_5_vl": (5, SIDE**2), "qwen3_vl": (4, SIDE**2 + 3)}
"""Where a frame's rows begin in the prompt of a Qwen model, and how many there are to a frame."""


def padded(ids: list[torch.Tensor], left: bool = True) -> dict[str, torch.Tensor]:
    """Prompts of different length as one batch."""
    length = max(map(len, ids))
    sides = [(length - len(one), 0) if left else (0, length - len(one)) for one in ids]
    masks = [functional.pad(torch.ones_like(one), side) for one, side in zip(ids, sides, strict=True)]
    rows = [functional.pad(one, side) for one, side in zip(ids, sides, strict=True)]
    return {"input_ids": torch.stack(rows), "attention_mask": torch.stack(masks)}


def llava_onevision(model, inputs):  # noqa: F811
    first, video = inputs["input_ids"][0], inputs["pixel_values_videos"]
    second, other = torch.cat([first[:-2], torch.tensor(LONGER)]), video.flip(1).roll(5, dims=-1)
    calls = [
        {"input_ids": one[None], "pixel_values_videos": pixels} for one, pixels in ((first, video), (second, other))
    ]
    return calls, padded([first, second]) | {"pixel_values_videos": torch.cat([video, other])}


def llava_video(model, inputs):  # noqa: F811
    adapter, clip = adapter_for(model), inputs.clip
    other = Clip(clip.values_TX[2:].flip(-1), tuple(map(float, range(FEWER))))
    joined = Clip(torch.cat([clip.values_TX, other.values_TX]), tuple(map(float, range(FRAMES + FEWER))))
    video = [adapter.video_token_id] * adapter.arranged(FEWER, (SIDE, SIDE)).rows
    first, second = inputs["input_ids"][0], torch.tensor([*SYSTEM, *video, *LONGER])
    calls = [EncodedAtTheCall(adapter, one[None], its) for one, its in ((first, clip), (second, other))]
    both = EncodedAtTheCall(adapter, torch.empty(0), joined)
    both.given |= padded([first, second])
    return calls, both


def qwen(name: str):
    def make(model, inputs):  # noqa: F811
        adapter, first, (at, per_frame) = adapter_for(model), inputs["input_ids"][0], CUT[name]
        second = torch.cat([first[:at], first[at + 2 * per_frame : -len(QUESTION)], torch.tensor(LONGER)])
        values_TRX = inputs["pixel_values_videos"].unflatten(0, (FRAMES, -1))[2:].flip(-1)
        side = SIDE * adapter.merge
        calls = [
            dict(inputs),
            adapter.call(second[None], Clip(values_TRX, tuple(map(float, range(FEWER))), grid=(side, side))),
        ]
        both = padded([first, second])
        both["mm_token_type_ids"] = 2 * (both["input_ids"] == adapter.video_token_id).int()
        joined = {name: torch.cat([one[name] for one in calls]) for name in calls[0] if name not in both}
        return calls, both | joined

    return make


def internvl(model, inputs):  # noqa: F811
    """The shorter video loses its last frames, since all are numbered from the first."""
    first, per_frame = inputs["input_ids"][0], SIDE**2 + 4
    second = torch.cat([first[: len(SYSTEM) + FEWER * per_frame], torch.tensor(LONGER)])
    videos = inputs["pixel_values"], inputs["pixel_values"][:FEWER].flip(-1)
    calls = [{"input_ids": one[None], "pixel_values": its} for one, its in zip((first, second), videos, strict=True)]
    return calls, padded([first, second]) | {"pixel_values": torch.cat(videos)}


BATCHES = {"llava_onevision": llava_onevision, "llava_video": llava_video, "internvl": internvl}
BATCHES |= {name: qwen(name) for name in CUT}
"""By family, two calls and the batch of both; the videos differ, in length too where the stock call takes that."""


@pytest.fixture(scope="module", params=["llava_onevision", *FAMILIES])
def family(request):
    return request.param


@pytest.fixture(scope="module")
def prompts(family, model, made):  # noqa: F811
    return BATCHES[family](model, made[1])


def answer(model, call, **settings):  # noqa: F811
    settings = {"max_new_tokens": 3, "do_sample": False} | settings
    out = model.generate(**call, **settings, return_dict_in_generate=True, output_logits=True)
    return torch.stack(out.logits, 1), out.sequences[:, call["input_ids"].shape[1] :]


@pytest.mark.parametrize("method", [*VISUAL, *MEMORY], ids=repr)
def test_a_batch_gives_what_its_samples_give_one_by_one(model, family, prompts, method):  # noqa: F811
    if isinstance(method.stage, FastVID) and family not in SIGLIP:
        pytest.skip("FastVID needs SigLIP's pooling head")
    calls, both = prompts
    with pruner_of(method.stage)(model) as report:
        alone = [(*answer(model, call), copy.copy(report)) for call in calls]
        logits, tokens = answer(model, both)
    assert len(report.videos) == len(calls)
    for sample, (its_logits, its_tokens, its) in enumerate(alone):
        found = report.videos[sample]
        assert torch.equal(found.layout.visual_V, its.layout.visual_V)
        assert torch.equal(found.layout.frame_V, its.layout.frame_V)
        assert (found.visual_rows, found.visual_kv, found.reads) == (its.visual_rows, its.visual_kv, its.reads)
        torch.testing.assert_close(logits[sample], its_logits[0], atol=2e-4, rtol=1e-4)
        assert torch.equal(tokens[sample], its_tokens[0])


def test_padding_is_to_the_longest_pruned_prompt(model, prompts):  # noqa: F811
    rows = []
    with Pruner(VisualSharpV())(model) as report:
        watch = model.model.language_model.layers[0].register_forward_pre_hook(
            lambda module, args: rows.append(args[0].shape[1])
        )
        answer(model, prompts[1])
        watch.remove()
    lengths = [sample.layout.length for sample in report.videos]
    assert rows[0] == max(lengths) > min(lengths)
    assert rows[0] < prompts[1]["input_ids"].shape[1]


SEVERAL = ({"do_sample": True, "num_return_sequences": 2}, {"num_beams": 2, "num_return_sequences": 2})


def start(model, call, **settings):  # noqa: F811
    """Logits of the first step of each sample or beam."""
    return answer(model, call, max_new_tokens=2, **settings)[0][:, 0]


def repeated_rightly(model, calls, settings):  # noqa: F811
    """The calls of which the dense model begins all samples alike: versions of transformers repeat some wrongly."""
    pairs = [(start(model, call).repeat_interleave(2, dim=0), start(model, call, **settings)) for call in calls]
    found = [call for call, pair in zip(calls, pairs, strict=True) if torch.allclose(*pair, atol=1e-3)]
    return found or pytest.skip("this transformers gives samples of such a prompt another video than its own")


@pytest.mark.parametrize("settings", SEVERAL, ids=["samples", "beams"])
@pytest.mark.parametrize("visual", [VisualSharpV(), VisionZip()], ids=["from tokens", "from the tower"])
def test_samples_and_beams_start_from_the_logits_of_their_prompt(family, model, prompts, visual, settings):  # noqa: F811
    """However often generate has the video encoded for them, which transformers changed between versions."""
    (first, _), both = prompts
    for call in repeated_rightly(model, (first, both), settings):
        with Pruner(visual)(model):
            expected = start(model, call)
        with Pruner(visual)(model) as report:
            found = start(model, call, **settings)
        assert len(report.videos) == len(found) == 2 * len(expected)
        torch.testing.assert_close(found, expected.repeat_interleave(2, dim=0), atol=2e-4, rtol=1e-4)

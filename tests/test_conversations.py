"""Several videos in a prompt, images beside them, and later turns on a pruned cache, in every family.

What `Pruner()` gives, which prunes nothing, is compared with the stock model; what a method gives, with the stock
decoder on rows that the test picks by hand.

Shape suffixes: N rows, D width, L logits.
"""

import pytest
import torch
from families import FAMILIES, SIDE
from methods import MEMORY, VISUAL, pruner_of
from test_all_methods import SIGLIP, made, model  # noqa: F401
from test_batches import BATCHES, SEVERAL, answer, repeated_rightly, start

from sharpv import Pruner, SharpV, VisualSharpV
from sharpv.models import adapter_for
from sharpv.pruners.base import MemoryPruner
from sharpv.pruners.fastvid import FastVID
from sharpv.pruners.visionzip import VisionZip
from sharpv.runtime.cache import CACHE_NAMES, cache_argument

TOLERANCE = {"atol": 2e-4, "rtol": 1e-4}
TURN = torch.tensor([[30, 31, 32, 33, 34]])
IMAGE = 3


@pytest.fixture(scope="module", params=["llava_onevision", *FAMILIES])
def family(request):
    return request.param


@pytest.fixture(scope="module")
def calls(family, model, made):  # noqa: F811
    """Two prompts, and one with both videos, of different length where the family takes that."""
    one_by_one, both = BATCHES[family](model, made[1])
    ids = torch.cat([call["input_ids"] for call in one_by_one], dim=1)
    if family == "llava_video":
        both.given = {"input_ids": ids, "mm_encoder_outputs": None}
        return one_by_one, both
    both = {name: value for name, value in both.items() if name != "attention_mask"} | {"input_ids": ids}
    if "mm_token_type_ids" in both:
        both["mm_token_type_ids"] = torch.cat([call["mm_token_type_ids"] for call in one_by_one], dim=1)
    return one_by_one, both


def fed_to_decoder(model, call):  # noqa: F811
    """What the stock model hands its decoder for a prompt."""
    seen = {}
    watch = adapter_for(model).language_model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.update(kwargs) if not seen else None, with_kwargs=True
    )
    answer(model, call, max_new_tokens=1)
    watch.remove()
    return seen


def test_videos_of_a_stacked_call_are_told_apart_without_text_between_them(model, family, calls):  # noqa: F811
    if family != "llava_onevision":
        pytest.skip("other families have text between videos, or encode them before the call")
    both = dict(calls[1])
    is_video = both["input_ids"][0] == adapter_for(model).video_token_id
    first = int(is_video.nonzero()[0])
    ids = torch.cat([both["input_ids"][0, :first], both["input_ids"][0, is_video], TURN[0]])[None]
    call = {"input_ids": ids, "pixel_values_videos": both["pixel_values_videos"]}
    with Pruner(VisualSharpV())(model) as report:
        answer(model, both, max_new_tokens=1)
        expected = [one.layout.frame_V for one in report.videos]
        answer(model, call, max_new_tokens=1)
    assert len(report.videos) == 2
    assert all(map(torch.equal, expected, [one.layout.frame_V for one in report.videos]))


def test_two_videos_without_pruning_are_the_stock_models(model, calls):  # noqa: F811
    expected = answer(model, calls[1])
    with Pruner()(model) as report:
        found = answer(model, calls[1])
    torch.testing.assert_close(found[0], expected[0], **TOLERANCE)
    assert torch.equal(found[1], expected[1])
    assert [one.vr for one in report.videos] == [1, 1]


@pytest.mark.parametrize("method", [method for method in VISUAL if not method.stage.reads_question], ids=repr)
def test_each_video_of_a_prompt_is_pruned_on_its_own(model, family, calls, method):  # noqa: F811
    if isinstance(method.stage, FastVID) and family not in SIGLIP:
        pytest.skip("FastVID needs SigLIP's pooling head")
    one_by_one, both = calls
    with pruner_of(method.stage)(model) as report:
        alone = []
        for call in one_by_one:
            answer(model, call, max_new_tokens=1)
            alone.append(report.layout)
        answer(model, both)
    assert len(report.videos) == 2
    for expected, found in zip(alone, report.videos, strict=True):
        assert torch.equal(found.layout.frame_V, expected.frame_V)
        assert torch.equal(found.layout.patch_V, expected.patch_V)
        assert found.layout.frames == expected.frames


def test_two_pruned_videos_give_what_the_stock_decoder_gives_on_the_rows_kept(model, family, calls):  # noqa: F811
    if family == "llava_video":
        pytest.skip("its newlines are rows of the video too; what becomes of them is tested for one video")
    _, both = calls
    dense = fed_to_decoder(model, both)
    with Pruner(VisualSharpV())(model) as report:
        found, _ = answer(model, both, max_new_tokens=1)
    adapter = adapter_for(model)
    places = (both["input_ids"][0] == adapter.video_token_id).nonzero().flatten()
    kept = torch.ones(both["input_ids"].shape[1], dtype=torch.bool)
    separators = 1 if family == "llava_onevision" else 0
    for one in report.videos:
        layout = one.layout
        its, places = places[: layout.dense_visual], places[layout.dense_visual + separators :]
        kept[its] = False
        kept[its[layout.frame_V * SIDE**2 + layout.patch_V]] = True
    rows = kept.nonzero().flatten()
    call = {"inputs_embeds": dense["inputs_embeds"][:, rows]}
    if dense.get("position_ids") is not None and dense["position_ids"].ndim == 3:
        call["position_ids"] = dense["position_ids"][-3:, :, rows]
    if dense.get("visual_pos_masks") is not None:
        call["visual_pos_masks"] = dense["visual_pos_masks"][:, rows]
        stays = kept[dense["visual_pos_masks"][0]]
        call["deepstack_visual_embeds"] = [level[stays] for level in dense["deepstack_visual_embeds"]]
    states = adapter.language_model(**call).last_hidden_state
    expected = model.get_output_embeddings()(states[:, -1:])
    torch.testing.assert_close(found, expected, **TOLERANCE)


@pytest.mark.parametrize("method", MEMORY, ids=repr)
def test_a_memory_stage_refuses_several_videos_by_name(model, calls, method):  # noqa: F811
    message = f"several videos \\(2\\), but {type(method.stage).__name__} acts"
    with pytest.raises(ValueError, match=message), pruner_of(method.stage)(model):
        answer(model, calls[1])


def with_image(model, call):  # noqa: F811
    """The call with an image of IMAGE x IMAGE tokens in front, or as many as the family makes of one picture."""
    adapter, generator = adapter_for(model), torch.Generator().manual_seed(3)
    pad, ids = adapter.image_token_id, call["input_ids"]
    if "video_grid_thw" in call:
        side = IMAGE * adapter.merge
        values = torch.randn(side * side, call["pixel_values_videos"].shape[-1], generator=generator)
        image = {"pixel_values": values, "image_grid_thw": torch.tensor([[1, side, side]])}
        rows = torch.tensor([[model.config.vision_start_token_id, *[pad] * IMAGE**2]])
        ids = torch.cat([ids[:, :2], rows, ids[:, 2:]], dim=1)
        kinds = (ids == pad).int() + 2 * (ids == adapter.video_token_id).int()
        return call | image | {"input_ids": ids, "mm_token_type_ids": kinds}
    size = model.config.vision_config.image_size
    pixels = torch.randn(1, 2, 3, size, size, generator=generator)
    image = {"pixel_values": pixels, "image_sizes": torch.tensor([[size, size]])}
    features = model.get_image_features(**image, return_dict=True).pooler_output
    rows = torch.full((1, sum(map(len, features))), pad)
    return call | image | {"input_ids": torch.cat([ids[:, :2], rows, ids[:, 2:]], dim=1)}


@pytest.fixture(scope="module")
def beside_an_image(family, model, calls):  # noqa: F811
    if family in ("llava_video", "internvl"):
        pytest.skip("the front door takes no image beside a video: LLaVA-Video's come encoded, InternVL's as pictures")
    with torch.no_grad():
        return with_image(model, calls[0][0]), with_image(model, calls[1])


def test_images_are_left_alone(model, beside_an_image):  # noqa: F811
    for call in beside_an_image:
        expected = answer(model, call)
        with Pruner()(model):
            found = answer(model, call)
        torch.testing.assert_close(found[0], expected[0], **TOLERANCE)
        assert torch.equal(found[1], expected[1])


@pytest.mark.parametrize("method", [method for method in VISUAL if method.stage.tower_layers is not None], ids=repr)
def test_what_the_tower_left_of_an_image_is_not_taken_for_the_videos(model, family, calls, beside_an_image, method):  # noqa: F811
    if isinstance(method.stage, FastVID) and family not in SIGLIP:
        pytest.skip("FastVID needs SigLIP's pooling head")
    with pruner_of(method.stage)(model) as report:
        answer(model, calls[0][0], max_new_tokens=1)
        expected = report.layout
        answer(model, beside_an_image[0], max_new_tokens=1)
    assert torch.equal(report.layout.frame_V, expected.frame_V)
    assert torch.equal(report.layout.patch_V, expected.patch_V)
    assert report.layout.start > expected.start


def test_a_memory_stage_that_keeps_all_leaves_an_image_as_it_is(model, beside_an_image):  # noqa: F811
    call = beside_an_image[0]
    expected = answer(model, call)
    for method in MEMORY:
        if method.whole is None:
            continue
        with Pruner(memory=method.whole)(model):
            found = answer(model, call)
        torch.testing.assert_close(found[0], expected[0], **TOLERANCE)


def test_images_are_pruned_as_videos_of_one_frame_where_they_are_one_grid(model, family, calls, beside_an_image):  # noqa: F811
    if family == "llava_onevision":
        with pytest.raises(ValueError, match="tiles.*images='keep'"), Pruner(VisualSharpV(), images="prune")(model):
            answer(model, beside_an_image[0])
        return
    expected = answer(model, beside_an_image[1])
    with Pruner(images="prune")(model) as report:
        found = answer(model, beside_an_image[1])
        assert [one.layout.frames for one in report.videos] == [1, *(one.layout.frames for one in report.videos[1:])]
    torch.testing.assert_close(found[0], expected[0], **TOLERANCE)
    with Pruner(VisualSharpV(), images="prune")(model) as report:
        answer(model, calls[0][0], max_new_tokens=1)
        alone = report.layout
        answer(model, beside_an_image[0], max_new_tokens=1)
    image, video = (one.layout for one in report.videos)
    assert 0 < image.visual < image.dense_visual == IMAGE**2
    assert torch.equal(video.frame_V, alone.frame_V)
    assert torch.equal(video.patch_V, alone.patch_V)
    with pytest.raises(ValueError, match="VisionZip.*images='keep'"), Pruner(VisionZip(), images="prune")(model):
        answer(model, beside_an_image[0])


@pytest.mark.parametrize("images", ["keep", "prune"])
def test_beams_and_samples_of_a_prompt_with_an_image_start_from_its_logits(model, family, beside_an_image, images):  # noqa: F811
    if family == "llava_onevision" and images == "prune":
        pytest.skip("OneVision's images have tiles and newlines")
    for settings in SEVERAL:
        for call in repeated_rightly(model, beside_an_image, settings):
            with Pruner(VisualSharpV(), images=images)(model):
                expected, found = start(model, call), start(model, call, **settings)
            torch.testing.assert_close(found, expected.repeat_interleave(2, dim=0), **TOLERANCE)


def test_a_refused_call_leaves_nothing_to_the_next(model, family, calls, beside_an_image):  # noqa: F811
    if family not in ("qwen2_5_vl", "qwen3_vl"):
        pytest.skip("images of other families are not pruned")
    wrong = torch.ones_like(beside_an_image[0]["input_ids"])
    wrong[0, -1] = 0
    with Pruner(VisualSharpV(), images="prune")(model) as report:
        answer(model, beside_an_image[0], max_new_tokens=1)
        expected = [one.layout.visual for one in report.videos]
        with pytest.raises(ValueError, match="padding_side"):
            answer(model, beside_an_image[0] | {"attention_mask": wrong})
        answer(model, beside_an_image[0], max_new_tokens=1)
        assert [one.layout.visual for one in report.videos] == expected


def test_images_are_kept_or_pruned_and_nothing_else():
    with pytest.raises(ValueError, match="images='drop'"):
        Pruner(images="drop")


def first_turn(model, call, rows: int = 3):  # noqa: F811
    """The ids so far and the cache that stands behind all but the last of them."""
    out = model.generate(**call, max_new_tokens=rows, do_sample=False, return_dict_in_generate=True)
    return out.sequences, next(getattr(out, name) for name in CACHE_NAMES if hasattr(out, name))


def later_turn(model, ids, cache, new=TURN, **settings):  # noqa: F811
    whole = torch.cat([ids, new], dim=1)
    call = {"input_ids": whole, "attention_mask": torch.ones_like(whole), cache_argument(model): cache}
    return answer(model, call | settings)


def token_by_token(model, ids, cache, new=TURN):  # noqa: F811
    """Logits behind the last token when each is a decode step of its own."""
    with torch.no_grad():
        for token in torch.cat([ids[:, -1:], new], dim=1)[0]:
            logits = model(input_ids=token[None, None], use_cache=True, **{cache_argument(model): cache}).logits
    return logits[:, -1]


def test_a_later_turn_without_pruning_is_the_stock_models(model, calls):  # noqa: F811
    call = calls[0][0]
    expected = later_turn(model, *first_turn(model, call))
    with Pruner()(model) as report:
        found = later_turn(model, *first_turn(model, call))
    torch.testing.assert_close(found[0], expected[0], **TOLERANCE)
    assert torch.equal(found[1], expected[1])
    assert len(report.reads) == found[1].shape[1] - 1


STEADY = [method for method in MEMORY if type(method.stage).attend is MemoryPruner.attend]
"""Memory stages that read all that they hold in each decode step, so that a turn in one call is the same as in many."""


@pytest.mark.parametrize("method", [*VISUAL, *STEADY], ids=repr)
def test_a_later_turn_reads_the_pruned_cache_as_token_by_token(model, family, calls, method):  # noqa: F811
    if isinstance(method.stage, FastVID) and family not in SIGLIP:
        pytest.skip("FastVID needs SigLIP's pooling head")
    if family == "qwen2_5_vl":
        pytest.skip("transformers numbers a later turn from behind the video's time range, a decode step from the text")
    with pruner_of(method.stage)(model) as report:
        expected = token_by_token(model, *first_turn(model, calls[0][0]))
        ids, cache = first_turn(model, calls[0][0])
        held = list(report.visual_kv)
        found, tokens = later_turn(model, ids, cache)
        assert report.visual_kv == held
        assert report.reads == [held] * (tokens.shape[1] - 1)
        second, _ = later_turn(model, torch.cat([ids, TURN, tokens], dim=1), cache)
    torch.testing.assert_close(found[:, 0], expected, **TOLERANCE)
    assert second.isfinite().all()


def test_a_turn_may_be_given_by_its_new_ids_alone(model, calls):  # noqa: F811
    with Pruner(VisualSharpV())(model):
        expected, _ = later_turn(model, *first_turn(model, calls[0][0]))
        ids, cache = first_turn(model, calls[0][0])
        mask = torch.ones(1, ids.shape[1] + TURN.shape[1], dtype=torch.long)
        new = torch.cat([ids[:, -1:], TURN], dim=1)
        found, _ = answer(model, {"input_ids": new, "attention_mask": mask, cache_argument(model): cache})
    torch.testing.assert_close(found, expected, **TOLERANCE)


@pytest.mark.parametrize("pruner", [Pruner(VisualSharpV()), SharpV()], ids=["visual", "both"])
def test_a_batch_goes_on_as_its_samples_do(model, family, made, pruner):  # noqa: F811
    one_by_one, both = BATCHES[family](model, made[1])
    with pruner(model):
        alone = [later_turn(model, *first_turn(model, call))[0] for call in one_by_one]
        ids, cache = first_turn(model, both)
        whole = torch.cat([ids, TURN.expand(2, -1)], dim=1)
        behind = whole.shape[1] - both["input_ids"].shape[1]
        mask = torch.nn.functional.pad(both["attention_mask"], (0, behind), value=1)
        found, _ = answer(model, {"input_ids": whole, "attention_mask": mask, cache_argument(model): cache})
    torch.testing.assert_close(found, torch.cat(alone), **TOLERANCE)


def test_a_second_video_may_come_in_a_later_turn_where_the_stock_call_numbers_it(model, family, calls):  # noqa: F811
    one_by_one, both = calls
    if family in ("qwen2_5_vl", "qwen3_vl"):
        with Pruner(VisualSharpV())(model):
            ids, cache = first_turn(model, one_by_one[0])
            mask = torch.ones(1, ids.shape[1] + one_by_one[1]["input_ids"].shape[1], dtype=torch.long)
            with pytest.raises(ValueError, match="whole conversation anew"):
                answer(model, one_by_one[1] | {"attention_mask": mask, cache_argument(model): cache})
        return
    for pruner in (Pruner(), Pruner(VisualSharpV())):
        with pruner(model) as report:
            expected, _ = answer(model, both)
            videos = [one.layout.frame_V for one in report.videos]
            ids, cache = first_turn(model, one_by_one[0], rows=1)
            second = one_by_one[1]["input_ids"]
            new = {"input_ids": torch.cat([ids[:, :-1], second], dim=1), cache_argument(model): cache}
            call = {**one_by_one[1], **new, "attention_mask": torch.ones_like(new["input_ids"])}
            found, _ = answer(model, call)
            assert all(map(torch.equal, [one.layout.frame_V for one in report.videos], videos))
        torch.testing.assert_close(found, expected, **TOLERANCE)


def test_a_memory_stage_refuses_a_second_video_in_a_later_turn(model, family, calls):  # noqa: F811
    if family != "llava_onevision":
        pytest.skip("the families that take one are alike here")
    first, second = calls[0]
    with SharpV()(model):
        ids, cache = first_turn(model, first)
        whole = torch.cat([ids, second["input_ids"]], dim=1)
        call = {"input_ids": whole, "attention_mask": torch.ones_like(whole), cache_argument(model): cache}
        with pytest.raises(ValueError, match="MemorySharpV.*second video"):
            answer(model, second | call)


def test_a_cache_pruned_in_a_context_is_refused_behind_it(model, calls):  # noqa: F811
    with Pruner(VisualSharpV())(model):
        ids, cache = first_turn(model, calls[0][0])
    with pytest.raises(ValueError, match="generation that has ended"):
        later_turn(model, ids, cache)


def test_assisted_decoding_is_refused_since_it_takes_rows_back(model, calls):  # noqa: F811
    with pytest.raises(ValueError, match="prompt_lookup_num_tokens"), Pruner(VisualSharpV())(model):
        answer(model, calls[0][0], prompt_lookup_num_tokens=2, max_new_tokens=8)

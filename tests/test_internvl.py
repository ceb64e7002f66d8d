"""InternVL's inputs against the library's own processor, and pictures that are no frames of a video."""

import numpy as np
import pytest
import torch
from checkpoints import write_internvl
from families import FAMILIES, FRAMES, SIDE
from transformers import AutoTokenizer, GotOcr2ImageProcessor, InternVLProcessor, InternVLVideoProcessor
from transformers.video_utils import VideoMetadata

from sharpv import Pruner, VisualSharpV
from sharpv.configuration import configure
from sharpv.models import adapter_for
from sharpv.models.internvl.loader import video_processor
from sharpv.models.loaded import VIDEO
from sharpv.videos.frames import Middles, Sampled

QUESTION = "What is shown?"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("internvl")
    write_internvl(folder)
    return folder


@pytest.fixture(scope="module")
def loaded(folder):
    settings = configure.load("model", "internvl3_8b")
    settings.path, settings.dtype, settings.frames, settings.device = str(folder), "float32", 11, "cpu"
    return configure.build(settings).load()


@pytest.fixture(scope="module")
def processor(folder):
    tokenizer, video = AutoTokenizer.from_pretrained(folder), InternVLVideoProcessor.from_pretrained(folder)
    images = GotOcr2ImageProcessor(size={"height": 16 * SIDE, "width": 16 * SIDE})
    return InternVLProcessor(images, tokenizer, video, image_seq_length=SIDE**2)


@pytest.mark.parametrize("total", [11, 40, 97])
def test_frames_pixels_and_prompt_are_the_librarys(loaded, processor, total):
    """As lmms-eval's internvl_hf calls it: frames chosen, resized and numbered by the processor."""
    video_THWC = np.random.default_rng(total).integers(0, 256, (total, 30, 53, 3), dtype=np.uint8)
    metadata = VideoMetadata(total_num_frames=total, fps=25.0)
    text = loaded.prompt.replace("{text}", QUESTION)
    theirs = processor(
        text=text,
        videos=[video_THWC],
        video_metadata=[metadata],
        do_sample_frames=True,
        num_frames=11,
        return_tensors="pt",
    )
    places = loaded.frames.indices(total, 25.0)
    sampled = Sampled(video_THWC[places], places.tolist(), total=total, fps=25.0)
    pixels = loaded.preprocess(sampled)
    assert torch.equal(pixels, theirs["pixel_values"])
    geometry = loaded.adapter.arranged(len(pixels), loaded.adapter.grid)
    assert torch.equal(loaded.prompt_ids(QUESTION, geometry, pixels), theirs["input_ids"])
    with torch.no_grad(), Pruner(VisualSharpV())(loaded.adapter.model) as report:
        loaded.adapter.model(**theirs)
    assert (report.layout.frames, report.layout.grid) == (11, (SIDE, SIDE))


def test_a_video_shorter_than_asked_is_taken_whole():
    assert Middles(8).indices(5).tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="no frame"):
        Middles(8).indices(0)


def shapes_of(adapter, text: str, processor, videos=(), images=()):
    """The shapes that a call with this prompt is noted to have; its decoder never runs."""
    made = processor(
        text=text,
        videos=[np.zeros((frames, 20, 20, 3), dtype=np.uint8) for frames in videos] or None,
        images=[np.zeros((*size, 3), dtype=np.uint8) for size in images] or None,
        return_tensors="pt",
        min_patches=1,
        max_patches=4,
    )
    with adapter.shapes() as seen, torch.no_grad():
        adapter.model(input_ids=made["input_ids"], pixel_values=made["pixel_values"])
    return [frames for frames, *_ in seen]


IMAGE = "<IMG_CONTEXT>"


@pytest.mark.parametrize(
    ("text", "videos"),
    [
        (f"{VIDEO}\nWhat?", [1]),
        (f"{VIDEO}\nWhat?", [32]),
        (f"{VIDEO}\n{VIDEO}\nand {VIDEO}", [3, 3, 3]),
        (f"user\n{VIDEO}\nwhat\n{VIDEO}\n", [12, 12]),
    ],
    ids=str,
)
def test_the_videos_of_a_prompt_are_told_apart_by_their_frames_numbers(loaded, processor, text, videos):
    assert shapes_of(loaded.adapter, text, processor, videos) == videos


@pytest.mark.parametrize(
    ("text", "videos", "images", "message"),
    [
        (f"{IMAGE}\n{VIDEO}", [4], [(40, 80)], "no frame of 36 tokens.*crop_to_patches"),
        (f"{IMAGE}\n{IMAGE}\n{IMAGE}\nWhat?", [], [(40, 40)] * 3, "the 3 pictures.*no frames of videos"),
        (f"{VIDEO}\n{IMAGE}", [4], [(40, 40)], "the 5 pictures.*no frames of videos"),
        (f"{IMAGE}\n{VIDEO}", [4], [(40, 40)], "the 5 pictures.*no frames of videos"),
    ],
    ids=["in tiles", "a list of images", "an image behind a video", "an image in front of it"],
)
def test_pictures_that_are_no_frames_are_refused(loaded, processor, text, videos, images, message):
    with pytest.raises(ValueError, match=message):
        shapes_of(loaded.adapter, text, processor, videos, images)


def test_a_call_that_failed_leaves_nothing_to_the_next():
    model, inputs = FAMILIES["internvl"]()
    with Pruner(VisualSharpV())(model) as report:
        with pytest.raises(ValueError, match="do not match"):
            model(input_ids=inputs["input_ids"], pixel_values=inputs["pixel_values"][:-1])
        model.generate(**inputs, max_new_tokens=1)
    assert report.layout.frames == FRAMES


def test_the_towers_mean_is_over_the_patches_that_a_token_is_made_of(loaded):
    adapter = loaded.adapter
    values_TRX = torch.randn(2, 4 * SIDE**2, 5)
    side = 2 * SIDE
    shuffled = adapter.model.model.pixel_shuffle(values_TRX.unflatten(1, (side, side)), scale_factor=0.5)
    expected = shuffled.flatten(1, 2).unflatten(-1, (4, 5)).mean(2)
    torch.testing.assert_close(adapter.pool(values_TRX), expected)


def test_what_the_tap_holds_is_what_the_tower_computes_with(loaded):
    adapter, pixels = loaded.adapter, torch.randn(2, 3, 16 * SIDE, 16 * SIDE)
    with torch.no_grad(), adapter.tap_tower((-1,)) as tap:
        tokens_TPD = adapter.encode(pixels).tokens_TPD
        tower = tap.tower()
        side = 2 * SIDE
        cells = adapter.model.model.pixel_shuffle(tower.states_TRX.unflatten(1, (side, side)), scale_factor=0.5)
        torch.testing.assert_close(adapter.model.model.multi_modal_projector(cells.flatten(1, 2)), tokens_TPD)
    heads = adapter.model.config.vision_config.num_attention_heads
    assert tower.has_cls
    assert tower.queries[-1].shape == tower.keys[-1].shape == (2, heads, 1 + side**2, 32 // heads)


def test_a_processor_of_another_size_than_the_towers_is_refused(folder):
    with pytest.raises(ValueError, match="its tower takes"):
        video_processor(folder, (48, 48))


def test_features_of_another_layer_are_refused():
    model, _ = FAMILIES["internvl"]()
    model.config.vision_feature_layer = -2
    with pytest.raises(ValueError, match="vision_feature_layer=-2"):
        adapter_for(model)

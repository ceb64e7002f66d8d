"""What a person reads of a generation: `print(report)` and the film strip."""

import re
import sys
import time

import numpy as np
import pytest
from PIL import Image
from test_runtime import DropLayers

from sharpv import MemorySharpV, Pruner, SharpV, VisualSharpV
from sharpv.pruners.bipartite import BipartiteMerging
from sharpv.pruners.fastv import FastV
from sharpv.runtime.report import Report
from sharpv.tiny.scenes import render, sample_scene


@pytest.fixture(scope="module")
def frames():
    return list(render(sample_scene(3)))


def reported(model, inputs, pruner, tokens=3):
    with pruner(model) as report:
        model.generate(**inputs, max_new_tokens=tokens, do_sample=False)
    return report


def lines(report):
    """Lines of the table of frames and of that of layers, by their first column."""
    cells = [re.findall(r"\S+", line) for line in str(report).splitlines() if line.startswith("   ")]
    at = next(place for place, line in enumerate(cells) if line[0] == "layer")
    return {line[0]: line[1:] for line in cells[1:at]}, {line[0]: line[1:] for line in cells[at + 1 :]}


def test_the_table_has_frames_layers_bytes_and_seconds(model, inputs):
    report = reported(model, inputs, Pruner(memory=FastV(keep_ratio=0.25)))
    frames, layers = lines(report)
    assert frames == {str(frame): ["36", "36", "100.0%"] for frame in range(1, 9)}
    assert layers == {"0": ["288", "288", "100.0%"], "1-3": ["288", "72", "25.0%"]}
    text = str(report)
    assert f"288 of 288 visual tokens fed: VR 100.0%; of their KV {report.mr:.1%} read" in text
    assert f"KV cache: {report.kv_bytes / 2**20:.1f} MiB" in text
    assert re.search(r"seconds: \d+\.\d{3} to the first token, .*, \d+\.\d{3} for each of 2 later ones", text)
    assert repr(report) == "Report(vr=1.000, mr=0.438)"


def test_rows_of_several_tokens_are_shared_among_their_frames(model, inputs):
    report = reported(model, inputs, Pruner(visual=BipartiteMerging(0.25)))
    frames, _ = lines(report)
    assert sum(float(kept) for _, kept, _ in frames.values()) == pytest.approx(72, abs=0.5)


def test_a_memory_stage_that_never_acted_says_so_with_what_it_measured(model, inputs):
    report = reported(model, inputs, SharpV(memory=MemorySharpV(threshold=-1)))
    lowest = min(report.state.values())
    assert "never acted: MemorySharpV(threshold=-1, " in str(report)
    assert f"It measured {lowest:.3f} to " in str(report)
    for acts in (
        Pruner(memory=DropLayers({1, 3}, reencode=True)),
        Pruner(memory=FastV()),
        Pruner(visual=VisualSharpV()),
    ):
        assert "never acted" not in str(reported(model, inputs, acts))


def test_the_clock_is_of_the_latest_generation_and_leaves_no_hook(model, inputs):
    with SharpV()(model) as report:
        assert report.seconds == {}
        assert str(report) == "the report is empty: nothing was generated yet"
        model.generate(**inputs, max_new_tokens=4, do_sample=False)
        assert {stage: len(laps) for stage, laps in report.clock.laps().items()} == {"prefill": 1, "decode": 3}
        model.generate(**inputs, max_new_tokens=1, do_sample=False)
        assert set(report.seconds) == {"prefill"}
    assert not model._forward_hooks
    assert not model._forward_pre_hooks


def test_the_time_to_the_first_token_holds_the_tower_wherever_generate_runs_it(model, inputs):
    tower = model.model.vision_tower
    slow = tower.register_forward_hook(lambda *_: time.sleep(0.3))
    with SharpV()(model) as report:
        model.generate(**inputs, max_new_tokens=1, do_sample=False)
        assert report.seconds["prefill"] > 0.3
        assert "vision tower included" in str(report)
        slow.remove()
    assert not tower._forward_pre_hooks


def test_many_frames_and_layers_are_put_together(model, inputs):
    report = reported(model, inputs, SharpV())
    many = Report(layout=report.layout, visual_kv=[20 - layer % 2 for layer in range(40)])
    object.__setattr__(many.layout, "depth", 40)
    _, layers = lines(many)
    assert list(layers)[:2] == ["0-2", "3-5"]
    assert len(layers) == 14


def test_a_film_strip_is_a_picture_with_dropped_patches_dimmed(model, inputs, frames):
    report = reported(model, inputs, SharpV())
    picture = report.film_strip(frames, "What is moving?")
    assert isinstance(picture, Image.Image)
    assert picture.mode == "RGB"
    assert picture.width > 1000
    whole = reported(model, inputs, Pruner(memory=FastV())).film_strip(np.stack(frames), "What is moving?")
    assert np.asarray(picture, float).mean() < np.asarray(whole, float).mean()


def test_frames_that_are_not_the_videos_and_a_missing_matplotlib_are_told(model, inputs, frames, monkeypatch):
    report = reported(model, inputs, SharpV(), tokens=1)
    assert report.film_strip([frame for frame in frames for _ in range(2)]).size == report.film_strip(frames).size
    with pytest.raises(ValueError, match="7 frames, but the model saw 8"):
        report.film_strip(frames[:7])
    for name in [name for name in sys.modules if name.startswith("sharpv.reports.figures")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ValueError, match="a film strip needs matplotlib"):
        report.film_strip(frames)

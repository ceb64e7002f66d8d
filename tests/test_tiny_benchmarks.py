"""The tiny benchmarks' files, and scenes that are stretched over many frames.

Shape suffixes: B beats, H height, W width, C colour channels.
"""

import dataclasses
import json

import numpy as np
import pytest

from sharpv.tiny import benchmarks
from sharpv.tiny.scenes import BEATS, render, sample_scene
from sharpv.tiny.stretching import stretch


def scene_with(role, background=None):
    return next(
        scene
        for scene in map(sample_scene, range(400_000, 401_000))
        if scene.of_role(role) and background in (None, scene.background)
    )


@pytest.mark.parametrize("frames", [64, 128])
def test_a_stretched_scene_shows_brief_things_in_a_sixteenth_of_its_frames_at_their_moment(frames):
    for scene in map(sample_scene, range(400_000, 400_040)):
        for short, long in zip(scene.of_role("brief"), stretch(scene, frames).of_role("brief"), strict=True):
            assert len(long.beats) == frames // 16
            assert list(long.beats) == list(range(long.beats[0], long.beats[0] + frames // 16))
            assert np.mean(long.beats) / (frames - 1) == pytest.approx(np.mean(short.beats) / (BEATS - 1), abs=0.05)


def test_a_stretched_scene_begins_and_ends_as_the_scene_does():
    scene = dataclasses.replace(scene_with("jumper"), background="darker")
    still = dataclasses.replace(scene, things=tuple(t for t in scene.things if t.role != "brief"))
    short_BHWC, long_BHWC = render(still, noise=0), render(stretch(still, 64), noise=0)
    assert long_BHWC.shape[0] == 64
    for end in (0, -1):
        assert np.abs(long_BHWC[end].astype(int) - short_BHWC[end]).max() <= 1


def test_a_stretched_mover_goes_the_same_way_in_steps_of_one_size_and_a_jumper_is_in_two_places_only():
    stretched = stretch(scene_with("jumper"), 64)
    mover, jumper = stretched.of_role("mover")[0], stretched.of_role("jumper")[0]
    steps = np.hypot(np.diff(mover.x), np.diff(mover.y))
    assert steps.min() == pytest.approx(steps.max())
    assert len(set(zip(jumper.x, jumper.y, strict=True))) == 2


@pytest.mark.parametrize("frames", [7, 64])
def test_fewer_frames_than_beats_and_a_scene_stretched_before_are_refused(frames):
    scene = sample_scene(400_000)
    with pytest.raises(ValueError, match="cannot be stretched"):
        stretch(scene if frames < BEATS else stretch(scene, 64), frames)


def test_a_video_that_another_version_left_is_written_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmarks, "LONG_VIDEOS", 1)
    monkeypatch.setattr(benchmarks, "LONG_FRAMES", 8)
    videos = benchmarks.write_long(tmp_path) / "videos"
    (video,) = videos.iterdir()
    whole = video.read_bytes()
    video.write_bytes(b"another version's")
    monkeypatch.setattr(benchmarks, "VERSION", benchmarks.VERSION + 1)
    benchmarks.write_long(tmp_path)
    assert video.read_bytes() == whole


def test_tiny_long_asks_about_files_that_are_there_and_its_answers_are_among_the_options(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmarks, "LONG_VIDEOS", 2)
    monkeypatch.setattr(benchmarks, "LONG_FRAMES", 16)
    folder = benchmarks.write_long(tmp_path)
    docs = [json.loads(line) for line in (folder / "tiny_long.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(docs) == 2 * benchmarks.LONG_PER_VIDEO
    for doc in docs:
        assert (folder / "videos" / f"{doc['videoID']}.mp4").stat().st_size
        assert [option[0] for option in doc["options"]].count(doc["answer"]) == 1

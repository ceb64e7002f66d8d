"""The training script from random weights to a checkpoint that loads, in very small."""

import json
import os
import subprocess

import numpy as np
import pytest
import torch
import warm
from transformers import AutoProcessor, LlavaOnevisionForConditionalGeneration

from sharpv.paths import REPOSITORY
from sharpv.tiny import CHECKPOINT
from sharpv.tiny.build import build_tokenizer
from sharpv.tiny.corpus import Packer
from sharpv.tiny.layouts import Frame, sample_shown
from sharpv.tiny.scenes import BEATS, GRID

SMALL = "videos=2 processes=1 tower.videos=2 tower.batch_frames=4 tower.save_every=1 lookup.batch=2".split()
SMALL += "language.batch_videos=1 letters.batch_videos=1 letters.log_every=1".split()


def train(work, *settings):
    command = [*warm.python(os.environ, REPOSITORY), "scripts/train_tiny.py", f"work_dir={work}", *SMALL, *settings]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return LlavaOnevisionForConditionalGeneration.from_pretrained(work / "checkpoint")


@pytest.mark.slow
def test_training_goes_through_all_stages_resumes_and_writes_a_checkpoint(tmp_path):
    stages = ("tower.steps=1", "lookup.steps=1", "language.steps=1")
    first = train(tmp_path, "initialise=scratch", *stages, "letters.steps=1")
    rendered = (tmp_path / "frames.npy").stat().st_mtime_ns
    second = train(tmp_path, "initialise=scratch", *stages, "letters.steps=2")
    assert (tmp_path / "frames.npy").stat().st_mtime_ns == rendered
    curve = [json.loads(line)["step"] for line in (tmp_path / "letters.jsonl").read_text(encoding="utf-8").splitlines()]
    assert curve == [1, 2]
    changed = {name for name, value in first.state_dict().items() if not torch.equal(value, second.state_dict()[name])}
    assert any("language_model" in name for name in changed)
    assert not any("vision_tower" in name or "projector" in name for name in changed), "the tower is frozen by then"
    assert AutoProcessor.from_pretrained(tmp_path / "checkpoint").tokenizer.get_vocab()


@pytest.mark.slow
def test_training_goes_on_from_the_bundled_checkpoint(tmp_path):
    bundled = LlavaOnevisionForConditionalGeneration.from_pretrained(CHECKPOINT).state_dict()
    rest = train(
        tmp_path, "initialise=checkpoint", "tower.steps=0", "letters.steps=1", "letters.warm_up=1000000"
    ).state_dict()
    assert all(torch.allclose(value.float(), rest[name].float(), atol=1e-4) for name, value in bundled.items())


def test_no_token_inside_a_grid_is_left_out_of_what_is_shown():
    """Every frame shown is a rectangle of its resized grid, whole but for a border."""
    features = torch.randn(1, BEATS, GRID, GRID, 4)
    for seed in range(200):
        shown = sample_shown(np.random.default_rng(seed), plain=0.1)
        assert shown.beats == tuple(sorted(set(shown.beats)))
        sizes = [(frame.rows[1] - frame.rows[0], frame.columns[1] - frame.columns[0]) for frame in shown.frames]
        assert all(height >= 3 and width >= 3 for height, width in sizes)
        assert shown.of(features).shape == (1, sum(height * width for height, width in sizes), 4)
        for frame in shown.frames:
            if (frame.grid, frame.rows, frame.columns) == ((GRID, GRID), (0, GRID), (0, GRID)):
                assert torch.equal(frame.of(features), features[:, frame.beat].flatten(1, 2))


def test_smaller_grids_come_both_ways_and_an_averaged_one_is_the_mean_of_its_cells():
    features = torch.randn(2, BEATS, GRID, GRID, 4)
    halves = features[:, 1].unflatten(1, (3, 2)).unflatten(3, (3, 2)).mean((2, 4)).flatten(1, 2)
    assert torch.allclose(Frame(1, (3, 3), (0, 3), (0, 3), averaged=True).of(features), halves, atol=1e-6)
    frames = [frame for seed in range(100) for frame in sample_shown(np.random.default_rng(seed), plain=0.0).frames]
    assert {frame.averaged for frame in frames if max(frame.grid) <= GRID} == {True, False}
    assert not any(frame.averaged for frame in frames if max(frame.grid) > GRID), "pooling makes no grid larger"


def test_a_family_of_questions_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match="no questions of \\['colours'\\]"):
        Packer(build_tokenizer(), 64, often={"colours": 2})

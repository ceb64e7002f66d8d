"""Every method has its YAML, every row of the tables prunes on the tiny model, and matched rows keep what they say."""

import os
import subprocess
from pathlib import Path

import pytest
import torch
from methods import MEMORY, VISUAL

from sharpv.configuration import configure
from sharpv.pair import Pruner
from sharpv.pruners.dycoke import DyCokeMerge
from sharpv.tiny.build import build_config, build_model
from sharpv.tokens import VideoTokens

ROWS = list(configure.load("experiment", "all_methods").rows)
FLOOR_ROWS = [name for name in configure.load("experiment", "tiny_floor").rows if name.startswith("floor_")]


def row_of(name, model="tiny"):
    configure.register_resolvers()
    return configure.rows(configure.load("pruner", name), configure.load("model", model))[0]


@pytest.fixture(scope="module")
def deep(tokenizer):
    """A random model as deep as the bundled one."""
    torch.manual_seed(0)
    model = build_model(build_config(tokenizer)).eval()
    model.generation_config.eos_token_id = None
    return model


def shipped() -> list[str]:
    """Names of the pruners that this repository holds; a user's own files beside them are not its business."""
    command = ["git", "ls-files", "configs/pruner"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False, cwd=configure.CONFIGS.parent)
    return sorted(Path(name).stem for name in listed.stdout.splitlines()) or configure.names("pruner")


def test_a_users_own_pruner_is_not_among_the_shipped_ones():
    mine = configure.CONFIGS / "pruner" / f"mine_{os.getpid()}.yaml"
    mine.write_text((configure.CONFIGS / "pruner" / "evs.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    try:
        assert mine.stem in configure.names("pruner")
        assert mine.stem not in shipped()
        assert "evs" in shipped()
    finally:
        mine.unlink()


def test_all_methods_are_in_the_tables():
    listed = {name for name in shipped() if not name.startswith(("reading_", "fig5_", "floor_"))}
    assert listed - set(ROWS) == {"fastvid", "visual_sharpv", "sharpv_budget"}
    assert "sharpv_budget" in configure.load("experiment", "field_table").rows
    assert set(configure.load("experiment", "table3").rows) <= set(ROWS)
    in_rows = {type(stage) for row in map(row_of, listed) for stage in (row.visual, row.memory)}
    assert {type(method.stage) for method in (*VISUAL, *MEMORY)} <= in_rows


@pytest.mark.parametrize("name", [*ROWS, *FLOOR_ROWS])
def test_a_row_prunes_on_the_tiny_model(deep, inputs, name, record_property):
    row = row_of(name)
    with Pruner(row.visual, row.memory)(deep) as report:
        deep.generate(**inputs, max_new_tokens=4, do_sample=False)
    record_property("vr", report.vr)
    record_property("mr", report.mr)
    assert report.token_budget == 1 if name == "dense" else report.token_budget < 1


def test_fastvid_says_what_it_lacks(deep, inputs):
    with pytest.raises(ValueError, match="pooling head"), Pruner(row_of("fastvid").visual)(deep):
        deep.generate(**inputs, max_new_tokens=2)


SHAPES = {"tiny": (8, 6), "pllava_7b": (16, 12), "llava_video_7b": (64, 13), "internvl3_8b": (32, 16)}
SHAPES |= dict.fromkeys(("qwen2_5_vl_3b", "qwen2_5_vl_7b", "qwen3_vl_4b", "qwen3_vl_8b"), (16, 14))


@pytest.mark.parametrize(
    ("name", "model", "kept"),
    [
        ("dycoke_k05", "llava_ov_7b", 4018),
        ("dycoke_k07", "llava_ov_7b", 3098),
        ("dycoke_matched_50", "llava_ov_7b", 3144),
        ("dycoke_matched_30", "llava_ov_0_5b", 1879),
        ("dycoke_matched_50", "pllava_7b", 1149),
        ("dycoke_matched_30", "pllava_7b", 720),
        ("dycoke_matched_50", "llava_video_7b", 5411),
        ("dycoke_matched_30", "llava_video_7b", 3249),
        ("dycoke_matched_50", "internvl3_8b", 4098),
        ("dycoke_matched_30", "internvl3_8b", 2465),
        ("dycoke_matched_50", "qwen3_vl_8b", 1563),
        ("dycoke_matched_30", "qwen2_5_vl_3b", 980),
        ("dycoke_matched_50", "tiny", 143),
        ("dycoke_matched_30", "tiny", 108),
    ],
)
def test_dycoke_keeps_what_its_row_says(name, model, kept):
    frames, side = SHAPES.get(model, (32, 14))
    video = VideoTokens(torch.randn(frames, side**2, 4), (side, side))
    assert len(row_of(name, model).visual.select(video)) == kept
    if "matched" in name:
        wanted = int(name[-2:]) / 100 * video.total
        reachable = [len(DyCokeMerge((count + 0.5) / side**2).select(video)) for count in range(side**2)]
        assert abs(kept - wanted) == min(abs(count - wanted) for count in reachable)


@pytest.mark.parametrize("share", [0.5, 0.3])
@pytest.mark.parametrize("model", sorted(SHAPES | dict.fromkeys(("llava_ov_7b", "llava_ov_0_5b"))))
def test_the_dycoke_that_really_keeps_its_share_is_set_for_the_frames_of_each_model(model, share):
    frames = configure.build(configure.load("model", model)).frames_of_tokens
    chosen = row_of(f"dycoke_matched_{100 * share:.0f}", model).visual
    least = DyCokeMerge(0.0).requested_ratio(frames)
    assert chosen.requested_ratio(frames) == pytest.approx(max(share, least), abs=0.004)

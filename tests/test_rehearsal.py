"""The rehearsal on a small shape, and the plan that takes its stage times."""

import json

import pandas as pd
import pytest
from hydra import compose, initialize_config_dir

from sharpv.commands import plan, rehearse
from sharpv.configuration import configure
from sharpv.configuration.configure import CONFIGS, register_resolvers
from sharpv.metrics import profiling_models
from sharpv.metrics.profiling_models import SHAPES, Shape
from sharpv.rehearsal.snapshots import write_benchmark

CELL = {
    "model": "llava_ov_0_5b",
    "benchmark": "actnetqa",
    "decode_video": 2.0,
    "video_seconds": 20.0,
    "preprocess": 0.1,
    "vision": 0.2,
    "first_token": 0.3,
    "token": 0.01,
}


@pytest.fixture(autouse=True)
def hydra():
    register_resolvers()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        yield


@pytest.fixture
def small_shape(monkeypatch):
    """LLaVA-OneVision's configuration and vocabulary with a narrow decoder and tower."""

    def config():
        found = profiling_models._llava_onevision(64, 128, 4, 4, 2, 152000, tied=True)
        parts = found.to_dict()
        parts["vision_config"] |= {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
        parts["vision_config"] |= {"num_hidden_layers": 4, "image_size": 96, "patch_size": 8}
        return type(found)(**parts)

    shape = Shape(SHAPES["llava_ov_0_5b"].model_class, config)
    monkeypatch.setitem(SHAPES, "llava_ov_0_5b", shape)


@pytest.mark.slow
def test_the_real_command_is_rehearsed_killed_and_resumed_and_gives_the_plan_its_times(
    small_shape, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("SHARPV_RESULTS", str(tmp_path))
    given = [
        "experiment=table3",
        "profile=paper",
        "rows=[dense,sharpv_adaptive]",
        "memory_every=0",
        "benchmarks=[actnetqa]",
    ]
    monkeypatch.setattr(rehearse, "_given", lambda: [*given, "warm_up=0"])
    code = rehearse.rehearse(compose("config", [*given, "rehearse.video_seconds=2"]), "test")
    (written,) = (tmp_path / "rehearsal").glob("*.md")
    text = written.read_text(encoding="utf-8")
    assert code == 0, text
    assert "8000 questions on 2 videos" in text
    assert "2 at the end, 0 twice" in text
    assert "rehearsed on" in text
    assert "killed (SIGKILL)" in text
    (cell,) = json.loads(written.with_suffix(".json").read_text(encoding="utf-8"))["cells"]
    assert (cell["benchmark"], cell["answers"]) == ("actnetqa", 2)
    assert min(cell["decode_video"], cell["vision"], cell["first_token"]) > 0


@pytest.mark.parametrize(("name", "videos"), [("mvbench", 19), ("videomme", 1), ("nextqa", 1), ("actnetqa", 1)])
def test_a_made_benchmark_has_its_real_number_of_questions(name, videos, tmp_path):
    size = compose("config").plan.benchmarks[name]
    assert write_benchmark(tmp_path, configure.load("benchmark", name), size, files=1, seconds=1) == (videos, 1.0)
    tables, lists = tmp_path.rglob("*.parquet"), tmp_path.rglob("json/*.json")
    made = sum(len(pd.read_parquet(file)) for file in tables)
    made += sum(len(json.loads(file.read_text(encoding="utf-8"))) for file in lists)
    assert made == size.questions


def test_a_rehearsal_without_gpu_refuses_a_benchmark_whose_layout_it_does_not_know(small_shape, tmp_path, monkeypatch):
    monkeypatch.setenv("SHARPV_RESULTS", str(tmp_path))
    monkeypatch.setattr(rehearse, "_given", list)
    with pytest.raises(ValueError, match="no rehearsal of benchmark 'tiny_mvbench'; there are: mvbench"):
        rehearse.rehearse(compose("config"), "test")


def test_the_plan_scales_rehearsed_times_to_the_length_of_videos_and_answers(tmp_path):
    file = tmp_path / "device.json"
    file.write_text(json.dumps({"device": "some GPU", "cells": [CELL]}), encoding="utf-8")
    size = compose("config", ["plan.benchmarks.actnetqa.answer_tokens=6"]).plan.benchmarks.actnetqa
    found = plan.rehearsed("llava_ov_0_5b", "actnetqa", size, str(file))
    assert found.decode_video == pytest.approx(2.0 * 115 / 20)
    assert found.answer == pytest.approx(0.3 + 5 * 0.01)
    assert found.source == "rehearsed on some GPU"
    assert plan.rehearsed("llava_ov_7b", "actnetqa", size, str(file)) is None


@pytest.mark.parametrize("content", ["no json", '{"cells": [{}]}', "[]"])
def test_a_file_that_holds_no_stage_times_is_refused(tmp_path, content):
    file = tmp_path / "other.json"
    file.write_text(content, encoding="utf-8")
    size = compose("config").plan.benchmarks.actnetqa
    with pytest.raises(ValueError, match=r"plan\.measured=.*no file of stage times"):
        plan.rehearsed("llava_ov_0_5b", "actnetqa", size, str(file))

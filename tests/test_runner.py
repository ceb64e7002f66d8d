"""The one-pass runner: a bad file costs its own sample, and only that."""

from pathlib import Path

import pytest

from sharpv import MemorySharpV, VisualSharpV
from sharpv.evaluation.loaded import Loaded, _image_processor
from sharpv.evaluation.rows import Row
from sharpv.evaluation.runner import Runner
from sharpv.evaluation.samples import Sample
from sharpv.evaluation.store import RowStore
from sharpv.models import adapter_for
from sharpv.tiny.build import PROMPT
from sharpv.tiny.scenes import SIDE, render, sample_scene
from sharpv.tiny.video import write_mp4


@pytest.fixture
def loaded(model, tokenizer):
    return Loaded("random", adapter_for(model), tokenizer, _image_processor(SIDE), 8, PROMPT, 1.0, frozenset(), "none")


def sample(video: Path, number: int = 0) -> Sample:
    return Sample("b", "t", number, "What is moving?", video, "red ring", 3, "hash")


ROWS = [
    Row("dense", "Dense", "dense", 0, None, None, {"visual": None, "memory": None}),
    Row("sharpv", "SharpV", "method", 0, VisualSharpV(), MemorySharpV(0.9), {"visual": {"m": 1}, "memory": {"m": 1}}),
]


def test_an_unreadable_and_a_missing_video_become_error_rows_and_the_others_are_answered(loaded, tmp_path):
    write_mp4(tmp_path / "good.mp4", render(sample_scene(1)), 2)
    (tmp_path / "broken.mp4").write_bytes(b"no video at all")
    store = RowStore(tmp_path / "samples.jsonl")
    names = ["broken.mp4", "good.mp4", "missing.mp4"]
    Runner(loaded, ROWS, store, "run").run([sample(tmp_path / name, i) for i, name in enumerate(names)])
    by_video = {name: [row for row in store.rows.values() if row["video"] == name] for name in names}
    assert all(row["status"] == "ok" for row in by_video["good.mp4"])
    assert all(row["status"] == "error" and "cannot be read" in row["error"] for row in by_video["broken.mp4"])
    assert all("does not exist" in row["error"] for row in by_video["missing.mp4"])


def test_questions_about_one_video_share_its_decoding_and_encoding(loaded, tmp_path, monkeypatch):
    write_mp4(tmp_path / "good.mp4", render(sample_scene(1)), 2)
    store = RowStore(tmp_path / "samples.jsonl")
    runner = Runner(loaded, ROWS, store, "run", memory_every=10**9)
    encoded = []
    original = runner._encode
    monkeypatch.setattr(runner, "_encode", lambda *args: (encoded.append(args[0]), original(*args))[1])
    runner.run([sample(tmp_path / "good.mp4", i) for i in range(4)], warm_up=0)
    assert len(encoded) == 1
    assert len(store.rows) == 8


def test_a_changed_setting_text_or_run_gets_another_key(loaded, tmp_path):
    store = RowStore(tmp_path / "samples.jsonl")
    runner, one = Runner(loaded, ROWS, store, "run"), sample(tmp_path / "a.mp4")
    keys = {runner.key(one, row) for row in ROWS} | {Runner(loaded, ROWS, store, "other").key(one, ROWS[0])}
    assert len(keys) == 3

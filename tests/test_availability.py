"""Weights that are not there, or only seem to be."""

import json
import shutil
from types import SimpleNamespace

import pytest

from sharpv.benchmarks.availability import incomplete
from sharpv.benchmarks.availability import weights as weights_of
from sharpv.tiny import CHECKPOINT

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 1234\n"


@pytest.fixture
def checkpoint(tmp_path):
    shutil.copytree(CHECKPOINT, tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


def weights(checkpoint):
    return next(checkpoint.glob("*.safetensors"))


def test_a_whole_checkpoint_lacks_nothing(checkpoint):
    assert incomplete(checkpoint) is None


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_pointer_in_place_of_a_file_is_told(checkpoint, name):
    (weights(checkpoint) if "safetensors" in name else checkpoint / name).write_bytes(POINTER)
    assert f"{name} (it is a git-lfs pointer" in incomplete(checkpoint)


def test_only_of_the_bundled_checkpoint_it_is_said_that_it_is_bundled(checkpoint, monkeypatch):
    weights(checkpoint).unlink()
    model = SimpleNamespace(name="tiny", display="mine", path=str(checkpoint))
    assert "train_tiny" not in weights_of(model).problem
    monkeypatch.setattr("sharpv.benchmarks.availability.CHECKPOINT", checkpoint)
    assert "train_tiny" in weights_of(model).problem


@pytest.mark.parametrize("part", [0.5, 0.999, 1e-4])
def test_half_a_safetensors_file_is_told(checkpoint, part):
    content = weights(checkpoint).read_bytes()
    weights(checkpoint).write_bytes(content[: int(len(content) * part)])
    assert "model.safetensors (it " in incomplete(checkpoint)


def test_what_is_no_safetensors_file_is_told(checkpoint):
    weights(checkpoint).write_bytes((5).to_bytes(8, "little") + b"[1,2]")
    assert "its header cannot be read" in incomplete(checkpoint)
    weights(checkpoint).write_bytes(b"")
    assert incomplete(checkpoint) == "model.safetensors"


def test_an_index_names_shards_and_may_itself_be_broken(checkpoint):
    index = checkpoint / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model-00002-of-00002.safetensors"}}), encoding="utf-8")
    assert incomplete(checkpoint) == "model-00002-of-00002.safetensors"
    index.write_text(json.dumps({"weight_map": {"a": "pytorch_model.bin", "b": "../x.safetensors"}}), encoding="utf-8")
    (checkpoint / "pytorch_model.bin").write_bytes(b"pickle")
    assert incomplete(checkpoint).count("may name safetensors files of its folder only") == 2
    for content, told in (("{", "it is broken"), (POINTER.decode(), "git-lfs pointer"), ("[]", "it is broken")):
        index.write_text(content, encoding="utf-8")
        assert f"model.safetensors.index.json ({told}" in incomplete(checkpoint).replace("it is a git", "git")

"""Where things lie: the environment is read as the Hugging Face libraries read it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sharpv import paths

VARIABLES = ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME", "SHARPV_RESULTS")
THEIRS = "from huggingface_hub import constants as c; print(c.HF_HOME); print(c.HF_HUB_CACHE)"
OURS = "from sharpv import paths; print(paths.hub_dir()); print(paths.hub_cache())"


def told(code, settings):
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES} | settings
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return ran.stdout.splitlines()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"HF_HOME": "~/hf"},
        {"HF_HOME": "/data/hf"},
        {"HF_HOME": "$HOME/hf"},
        {"XDG_CACHE_HOME": "/data/cache"},
        {"HF_HOME": "~/hf", "HF_HUB_CACHE": "~/models"},
        {"HUGGINGFACE_HUB_CACHE": "/data/old"},
        {"HF_HUB_CACHE": "/data/new", "HUGGINGFACE_HUB_CACHE": "/data/old", "XDG_CACHE_HOME": "/data/cache"},
    ],
)
def test_folders_are_those_of_huggingface_hub(settings):
    assert told(OURS, settings) == told(THEIRS, settings)


def test_results_are_written_where_the_variable_says(monkeypatch):
    monkeypatch.setenv("SHARPV_RESULTS", "~/results")
    assert paths.results_dir() == Path.home() / "results"
    monkeypatch.setenv("SHARPV_RESULTS", "")
    assert paths.results_dir() == paths.REPOSITORY / "results"


def test_a_snapshot_is_found_in_the_cache_that_is_set(monkeypatch, tmp_path):
    root = tmp_path / "models" / "datasets--one--two"
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text("a" * 40, encoding="utf-8")
    (root / "snapshots" / ("a" * 40)).mkdir(parents=True)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "models"))
    assert paths.hub_snapshot("one/two", "dataset") == root / "snapshots" / ("a" * 40)


def test_a_home_with_a_tilde_reaches_libraries_as_a_folder(monkeypatch):
    monkeypatch.setenv("HF_HOME", "~/hf")
    paths.go_offline()
    assert os.environ["HF_HOME"] == str(Path.home() / "hf")


def test_a_data_file_has_the_same_name_on_every_machine(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    assert paths.below_data(tmp_path / "nextqa" / "NExTVideo" / "1.mp4") == "nextqa/NExTVideo/1.mp4"
    assert paths.below_data(paths.tasks_dir() / "tiny" / "data" / "videos" / "1.mp4") == "tiny/data/videos/1.mp4"
    assert paths.below_data(Path("/elsewhere/1.mp4")) == "/elsewhere/1.mp4"


def test_bars_are_told_to_a_log_file_once_a_minute():
    code = "from sharpv import paths; paths.prepare_command_line(); import tqdm; print(tqdm.tqdm([]).mininterval)"
    assert told(code, {}) == ["60"] or told(code, {}) == ["60.0"]

"""Stored answers are used again after an edit that cannot reach them, and never after one that can."""

import shutil

import pytest

from sharpv.answering.keys import RUNNER
from sharpv.configuration import configure
from sharpv.configuration.code import PACKAGE, code_hash

EVERY_ROW = [RUNNER, "sharpv.models.llava_onevision.loader"]
FASTV, SCISSOR, CONTROLS = ["sharpv.pruners.fastv"], ["sharpv.pruners.scissor"], ["sharpv.pruners.controls"]
ALL = (EVERY_ROW, FASTV, SCISSOR, CONTROLS)


@pytest.fixture
def edited(tmp_path):
    """Which of `ALL` have another hash after an edit of a file of a copy of the package."""
    copy = tmp_path / "sharpv"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("checkpoint", "__pycache__"))
    homes = {"sharpv": copy}.get
    before = [code_hash(modules, homes) for modules in ALL]

    def edit(file: str, old: str, new: str):
        text = (copy / file).read_text(encoding="utf-8")
        assert old in text
        (copy / file).write_text(text.replace(old, new, 1), encoding="utf-8")
        return [modules for modules, was in zip(ALL, before, strict=True) if code_hash(modules, homes) != was]

    return edit


def test_comments_docstrings_and_formatting_change_nothing(edited):
    assert edited("pruners/fastv.py", "import torch\n", "# a remark\nimport torch\n\n\n\n") == []
    assert edited("pruners/base.py", "The two stages of a pruner", "Both stages of a pruner") == []
    assert edited("runtime/decode.py", '"""', '"""Now ') == []


def test_a_changed_method_reaches_its_own_rows_only(edited):
    assert edited("pruners/fastv.py", "import torch\n", "import torch\n\nCHANGED = 1\n") == [FASTV]


def test_what_a_method_imports_is_its_code(edited):
    assert edited("pruners/components.py", "import numpy as np\n", "import numpy as np\n\nCHANGED = 1\n") == [SCISSOR]


def test_a_changed_control_reaches_no_method(edited):
    assert edited("pruners/controls.py", "1_000_003", "1_000_033") == [CONTROLS]


@pytest.mark.parametrize("file", ["runtime/decode.py", "answering/runner.py", "models/llava_onevision/adapter.py"])
def test_a_changed_runtime_or_model_reaches_every_row(edited, file):
    assert edited(file, "\nfrom sharpv", "\nCHANGED = 1\nfrom sharpv") == [EVERY_ROW]


def test_reports_and_scoring_reach_no_answer(edited):
    assert edited("reports/tables/table3.py", "import pandas", "import numpy, pandas") == []
    assert edited("benchmarks/scoring.py", "def mean_score", "def mean_of_scores") == []


def test_the_reference_of_a_control_is_part_of_its_rows_code(monkeypatch):
    hashed = []
    monkeypatch.setattr("sharpv.configuration.outside.code_hash", lambda modules: hashed.append(modules) or "h")
    model = configure.load("model", "tiny")
    configure.register_resolvers()
    configure.rows(configure.load("pruner", "random_frame"), model)
    assert ["sharpv.pruners.controls", "sharpv.pruners.sharpv"] in hashed


def test_a_module_that_is_not_there_is_named():
    with pytest.raises(ValueError, match=r"no module sharpv\.nowhere in"):
        code_hash(["sharpv.nowhere"])

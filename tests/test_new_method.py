"""`make new-method` writes a method that passes what all methods must pass, and overwrites nothing."""

import shutil
import subprocess
import sys

import pytest

from sharpv.paths import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "scripts"))
from new_method import TABLE, TEST_LIST, new_method

WRITTEN = ("sharpv/pruners/far_from_mean.py", "configs/visual/far_from_mean.yaml", "configs/pruner/far_from_mean.yaml")


@pytest.fixture
def copy(tmp_path):
    """The parts of the repository that a new method touches."""
    for folder in ("sharpv/pruners", "configs"):
        shutil.copytree(REPOSITORY / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "tests").mkdir()
    shutil.copy(REPOSITORY / TEST_LIST, tmp_path / TEST_LIST)
    return tmp_path


def files(root):
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_three_files_are_written_and_two_lists_get_a_line(copy):
    before = files(copy)
    written = new_method("far_from_mean", copy)
    after = files(copy)
    assert {str(path.relative_to(copy)) for path in written} == {*WRITTEN, TEST_LIST, TABLE}
    assert {str(path) for path in after if path not in before} == set(WRITTEN)
    changed = {str(path) for path in before if after[path] != before[path]}
    assert changed == {TEST_LIST, TABLE}
    for path in changed:
        lines = (copy / path).read_text(encoding="utf-8").splitlines()
        old = (REPOSITORY / path).read_text(encoding="utf-8").splitlines()
        assert [line for line in lines if "far_from_mean" not in line and "FarFromMean" not in line] == old


@pytest.mark.parametrize(
    "name", ["My_method", "my-method", "1st", "class", "_mine", "mine_", "my__method", "../mine", ""]
)
def test_a_name_that_is_no_lower_case_python_name_is_refused(copy, name):
    before = files(copy)
    with pytest.raises(ValueError, match="lower case"):
        new_method(name, copy)
    assert files(copy) == before


@pytest.mark.parametrize(
    ("name", "holder"),
    [
        ("evs", "sharpv/pruners/evs.py"),
        ("random_frame", "configs/pruner/random_frame.yaml"),
        ("dycoke_cache", "sharpv/pruners/dycoke_cache.py"),
        ("uniform_stride", "sharpv/pruners/controls.py"),
    ],
)
def test_a_name_that_something_has_is_refused(copy, name, holder):
    before = files(copy)
    with pytest.raises(ValueError, match=f"is taken by .*{holder}"):
        new_method(name, copy)
    assert files(copy) == before


@pytest.mark.slow
def test_the_new_method_passes_what_all_methods_must_and_its_row_builds(tmp_path):
    ignored = shutil.ignore_patterns("__pycache__", "checkpoint")
    for folder in ("sharpv", "configs", "tests", "scripts"):
        shutil.copytree(REPOSITORY / folder, tmp_path / folder, ignore=ignored)
    (tmp_path / "sharpv" / "tiny" / "checkpoint").mkdir()
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    command = [sys.executable, "scripts/new_method.py", "far_from_mean", "--root", str(tmp_path)]
    assert "run.py pruner=far_from_mean" in subprocess.check_output(command, cwd=REPOSITORY, text=True)
    chosen = [
        "tests/test_all_methods.py",
        "tests/test_method_configs.py",
        "-k",
        "FarFromMean or far_from_mean",
    ]
    answer = subprocess.run(
        [sys.executable, "-m", "pytest", *chosen, "-n", "0", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout
    assert " passed" in answer.stdout
    assert " 0 passed" not in answer.stdout
    style = [sys.executable, "-m", "ruff", "check", *WRITTEN[:1], TEST_LIST]
    assert subprocess.run(style, cwd=tmp_path, check=False).returncode == 0
    style[3:4] = ["format", "--check"]
    assert subprocess.run(style, cwd=tmp_path, check=False).returncode == 0

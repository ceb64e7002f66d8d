"""A method of another package works through its entry point: its YAML is found, its class is built, nothing else is."""

import re
import shutil
import subprocess
import sys

import pytest
from hydra import compose, initialize_config_dir

from sharpv import Pruner
from sharpv.configuration import by_name, configure, folders, outside
from sharpv.configuration.code import PACKAGE
from sharpv.paths import REPOSITORY

TEXT = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")


def shown(file):
    """A file of the package that CONTRIBUTING shows."""
    return re.search(rf"^`{file}`.*?:\n\n```\w+\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL).group(1)


METHOD = shown("loud/methods.py")


@pytest.fixture
def other(tmp_path, monkeypatch):
    """An installed package `loud` that declares one method, and a package `quiet` that declares none."""
    for file in ("loud/configs/visual/loudest.yaml", "loud/configs/pruner/loudest.yaml"):
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).write_text(shown(file), encoding="utf-8")
    for package in ("loud", "quiet"):
        (tmp_path / package).mkdir(exist_ok=True)
        (tmp_path / package / "__init__.py").touch()
        (tmp_path / package / "methods.py").write_text(METHOD, encoding="utf-8")
    declare(tmp_path, "loudest = loud")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in [name for name in sys.modules if name.split(".")[0] in ("loud", "quiet")]:
        del sys.modules[name]


def declare(folder, line):
    info = folder / "loud-1.0.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: loud\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(f"[{folders.GROUP}]\n{line}\n", encoding="utf-8")


def composed(*overrides):
    configure.register_resolvers()
    with initialize_config_dir(str(configure.CONFIGS)):
        return compose("config", list(overrides))


def row_of(config):
    return configure.rows(config.pruner, config.model)[0]


def test_its_pruner_is_found_by_name_and_built(other):
    row = row_of(composed("pruner=loudest", "+pruner.visual_options.keep_ratio=0.125"))
    assert type(row.visual).__module__ == "loud.methods"
    assert row.visual.keep_ratio == 0.125
    assert "loudest" in configure.names("pruner")


def test_its_stage_composes_with_ours_and_is_a_reference_of_our_controls(other):
    row = row_of(composed("pruner.visual=loudest", "pruner.memory=sharpv"))
    assert type(row.memory).__name__ == "MemorySharpV"
    reference = {"_target_": "loud.methods.Loudest"}
    control = configure.build({"_target_": "sharpv.pruners.controls.UniformStride", "reference": reference})
    assert type(control.reference).__name__ == "Loudest"


def test_a_row_changes_its_hash_with_the_code_of_its_package(other):
    before, ours = row_of(composed("pruner=loudest")).hash, row_of(composed("pruner=evs")).hash
    assert row_of(composed("pruner=loudest")).hash == before
    (other / "loud" / "methods.py").write_text(METHOD + "\n# a remark\n", encoding="utf-8")
    assert row_of(composed("pruner=loudest")).hash == before
    (other / "loud" / "methods.py").write_text(METHOD + "\nCHANGED = 1\n", encoding="utf-8")
    assert row_of(composed("pruner=loudest")).hash != before
    assert row_of(composed("pruner=evs")).hash == ours


@pytest.mark.parametrize("line", ["from beside import count", "from .inner import count", "import beside.inner as b"])
def test_a_row_changes_its_hash_with_what_its_package_imports_of_its_own(other, line):
    beside = other / "beside"
    beside.mkdir()
    for file in (beside / "__init__.py", beside / "inner.py", other / "loud" / "inner.py"):
        file.write_text("def count(): return 2\n", encoding="utf-8")
    (other / "loud" / "methods.py").write_text(f"{METHOD}\n{line}\n", encoding="utf-8")
    before = row_of(composed("pruner=loudest")).hash
    for file in (beside / "__init__.py", beside / "inner.py", other / "loud" / "inner.py"):
        file.write_text("def count(): return 1\n", encoding="utf-8")
    assert row_of(composed("pruner=loudest")).hash != before


def test_a_row_changes_its_hash_with_what_its_package_imports_of_ours(other, monkeypatch, tmp_path):
    copy = tmp_path / "sharpv"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("checkpoint", "__pycache__"))
    monkeypatch.setattr("sharpv.configuration.outside.PACKAGE", copy)
    (other / "loud" / "methods.py").write_text(f"from sharpv.pruners.evs import EVS\n{METHOD}", encoding="utf-8")
    before = row_of(composed("pruner=loudest")).hash
    with (copy / "pruners" / "fastv.py").open("a", encoding="utf-8") as file:
        file.write("CHANGED = 1\n")
    assert row_of(composed("pruner=loudest")).hash == before
    with (copy / "pruners" / "evs.py").open("a", encoding="utf-8") as file:
        file.write("CHANGED = 1\n")
    assert row_of(composed("pruner=loudest")).hash != before


def test_code_that_another_distribution_holds_is_not_followed(other):
    (other / "loud" / "methods.py").write_text(f"import pytest, numpy\n{METHOD}", encoding="utf-8")
    assert outside._home("numpy") is None
    assert outside._home("json") is None
    assert outside._home("loud") == other / "loud"
    assert row_of(composed("pruner=loudest")).hash


def test_a_package_that_declares_nothing_is_not_built(other):
    with pytest.raises(ValueError, match="quiet"):
        configure.build({"_target_": "quiet.methods.Loudest"})
    with pytest.raises(ValueError, match="loudness"):
        configure.build({"_target_": "loudness.methods.Loudest"})


def test_a_package_that_lacks_what_it_imports_is_told_what(other):
    (other / "loud" / "methods.py").write_text(f"import nowhere_to_be_found\n{METHOD}", encoding="utf-8")
    with pytest.raises(ValueError, match=r"loud.methods.Loudest' cannot be imported: No module named 'nowhere_to_be"):
        Pruner.of("loudest")
    with pytest.raises(ValueError, match=r"is no stage of sharpv or loud"):
        by_name._class("loud.nowhere.Loudest")


@pytest.mark.parametrize(
    "config",
    [
        {"_target_": "sharpv.paths.os.system", "command": "true"},
        {"_target_": "sharpv.configuration.configure.load", "group": "pruner", "name": "evs"},
        {"_target_": "sharpv.pruners.evs.EVS", "keep_ratio": [{"_target_": "os.getcwd"}]},
    ],
)
def test_only_classes_of_the_package_itself_are_built(config):
    with pytest.raises(ValueError, match="_target_=.* is not a class of sharpv"):
        configure.build(config)


def test_without_the_package_its_name_is_unknown():
    with pytest.raises(ValueError, match="unknown pruner 'loudest'"):
        configure.load("pruner", "loudest")


def test_a_name_that_is_ours_is_refused(other):
    (other / "loud" / "configs" / "pruner" / "evs.yaml").write_text(
        shown("loud/configs/pruner/loudest.yaml"), encoding="utf-8"
    )
    with pytest.raises(ValueError, match=r"loud/configs/pruner/evs\.yaml and .*have the same name"):
        configure.load("pruner", "loudest")


def test_a_declared_module_that_is_not_there_is_named(other, monkeypatch, tmp_path_factory):
    folder = tmp_path_factory.mktemp("broken")
    declare(folder, "gone = no_such_module")
    monkeypatch.syspath_prepend(str(folder))
    with pytest.raises(ValueError, match="names the module no_such_module"):
        configure.names("pruner")


@pytest.mark.slow
def test_the_command_line_takes_it(other):
    answer = subprocess.run(
        [sys.executable, "run.py", "pruner=loudest", "dry_run=true"],
        env={"PYTHONPATH": str(other), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    assert "all build" in answer.stdout

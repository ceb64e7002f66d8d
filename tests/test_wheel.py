"""The wheel alone, unpacked outside the checkout, is the whole product."""

import os
import subprocess
import sys
from shutil import copytree, ignore_patterns
from zipfile import ZipFile

import pytest

from sharpv.paths import REPOSITORY

SOURCES = ("configs", "tasks", "results/paper", "sharpv")
FILES = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The folder that an unpacked wheel lies in; built from a copy, so that the checkout gets no build folder."""
    source, built, unpacked = (tmp_path_factory.mktemp(name) for name in ("source", "built", "unpacked"))
    for name in SOURCES:
        copytree(REPOSITORY / name, source / name, ignore=ignore_patterns("data", "__pycache__"))
    for name in FILES:
        (source / name).write_bytes((REPOSITORY / name).read_bytes())
    command = ["pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(built), "."]
    subprocess.run([sys.executable, "-m", *command], cwd=source, check=True, capture_output=True)
    (file,) = built.glob("*.whl")
    ZipFile(file).extractall(unpacked)
    return unpacked


def told(wheel, folder, *arguments):
    """What `python` says that finds the wheel first, in a folder outside the checkout."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SHARPV_")}
    environment |= {"PYTHONPATH": str(wheel), "XDG_CACHE_HOME": str(folder / "cache")}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_wheel_holds_every_configuration_and_task_of_the_checkout(wheel):
    for source, name in (("configs", "_configs"), ("tasks", "_tasks"), ("results/paper", "_paper")):
        ours = {path.relative_to(REPOSITORY / source) for path in (REPOSITORY / source).rglob("*") if path.is_file()}
        carried = wheel / "sharpv" / name
        theirs = {path.relative_to(carried) for path in carried.rglob("*") if path.is_file()}
        assert theirs == {path for path in ours if "data" not in path.parts}
    assert (wheel / "sharpv" / "py.typed").is_file()


def test_a_wheel_checks_an_experiment_from_any_folder(wheel, tmp_path):
    assert str(wheel / "sharpv" / "tiny" / "checkpoint") in told(wheel, tmp_path, "-m", "sharpv", "check")


def test_a_wheel_writes_results_to_the_working_folder_and_made_data_to_the_cache(wheel, tmp_path):
    code = "from sharpv import paths; print(paths.results_dir(), paths.tiny_data(), paths.tasks_dir())"
    results, data, tasks = told(wheel, tmp_path, "-c", code).split()
    assert results == str(tmp_path / "results")
    assert data == str(tmp_path / "cache" / "sharpv" / "tiny" / "data")
    assert tasks == str(wheel / "sharpv" / "_tasks")


def test_a_wheel_asks_for_what_a_video_processor_needs_without_an_extra(wheel):
    (metadata,) = wheel.glob("*.dist-info/METADATA")
    needed = [line for line in metadata.read_text(encoding="utf-8").splitlines() if line.startswith("Requires-Dist:")]
    assert "Requires-Dist: torchvision" in needed


def test_a_wheel_names_commands_that_it_has(wheel, tmp_path):
    code = (
        "from sharpv import typed; from sharpv.commands import front;"
        "print(typed.command('unpack'), typed.table('table3'), typed.page('last'), front.usage(), sep='\\n')"
    )
    said = told(wheel, tmp_path, "-c", code)
    assert said.startswith(
        "sharpv unpack\nsharpv table3\npython -m sharpv.reports.page.build --experiment last\nusage: "
    )
    assert "run.py" not in said
    assert "make " not in said

"""Every command that README, CONTRIBUTING and docs/ show runs as it is printed, in a copy of this checkout.

A fenced block marked `bash gpu`, `bash hub`, `bash cluster` or `bash chromium` is left out, as is a `make` all of whose
targets earlier lines of the document have made. Commands that answer questions are given few of them: see `SHORTER`.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

import pytest
import warm

from sharpv.paths import REPOSITORY, tasks_dir
from sharpv.tiny import CHECKPOINT
from sharpv.tiny.scenes import render, sample_scene
from sharpv.tiny.video import write_mp4

DOCUMENTS = [
    "README.md",
    "CONTRIBUTING.md",
    *(f"docs/{path.name}" for path in sorted((REPOSITORY / "docs").glob("*.md"))),
]
FENCED = re.compile(r"^ *```(\w*)(?: (\w+))?\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`((?:make|python|pip|pre-commit) [^`]+)`")
ELSEWHERE = ("gpu", "hub", "cluster", "chromium")
LEFT_OUT = {
    "make test": "this is one of its tests",
    "make test-fast": "the same tests, fewer",
    "make train-tiny": "takes hours",
    "pre-commit install": "writes into .git, which the copy does not have",
    "pip install -e .[cluster]": "installs from the network",
    "make test-oldest": "installs from the network",
    "make test-newest": "installs from the network",
    "make field-table PROFILE=tiny": "its 105 rows take minutes even of one question each",
    "make field-table": "the same",
    "make rehearsal": "test_rehearsal.py runs it in small",
    "make gpu-check": "test_gpu_check.py runs it in small",
    "make bench-frames": "makes an hour of video",
    "make bench-page": "needs Chromium, and makes a page of 460,000 answers",
    "python -m sharpv.tiny.acceptance": "judges all questions, and refuses the few that are answered here",
    "make docs": "test_site.py builds it",
    "make lock": "asks the network for versions",
}
FEW = "limit=1 warm_up=0 memory_every=0 threads=1"
TWO = "of_profile.tiny_benchmarks=[tiny_videomme,tiny_nextqa]"
SHORTER = {
    # Into a folder beside the copy: these tests run in an environment that their user goes on with.
    r"pip install -e \.$": "--no-deps --no-build-isolation --ignore-installed --prefix=../installed",
    r"python run\.py (check|plan|status|demo|unpack)\b": "",
    r"python run\.py calibrate\b": "videos=2 threads=1",
    # What `make table3` has answered by then.
    r"python run\.py experiment=table3 profile=tiny$": f"{FEW} {TWO}",
    r"python run\.py\b": FEW,
}
PLACEHOLDERS = {"<name>": "evs", "include_path=FOLDER": "include_path=tests/fixtures/own_task"}


def commands(document: str) -> list[str]:
    text = (REPOSITORY / document).read_text(encoding="utf-8")
    blocks = [block for language, mark, block in FENCED.findall(text) if language == "bash" and mark not in ELSEWHERE]
    lines = [line.split(" #")[0].strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    inline = [" ".join(found.split()) for found in INLINE.findall(FENCED.sub("", text))]
    return without_repeats(line for line in dict.fromkeys([*lines, *inline]) if line and line not in LEFT_OUT)


def without_repeats(lines: Iterable[str]) -> list[str]:
    made, kept = set(), []
    for line in lines:
        program, *words = line.split()
        targets = set(words) if program == "make" and "=" not in line else set()
        if not targets or targets - made:
            kept.append(line)
        made |= targets
    return kept


def shortened(command: str) -> str:
    for old, new in PLACEHOLDERS.items():
        command = command.replace(old, new)
    more = next((words for pattern, words in SHORTER.items() if re.match(pattern, command)), "")
    return f"{command} {more}".strip()


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The checkout without results of runs, over the same environment and videos."""
    ignored = [".git", ".cache", ".venv*", "runs", "data", "wandb", "multirun", "__pycache__", ".*_cache", "*.egg-info"]
    folder = tmp_path_factory.mktemp("copy") / "sharpv"
    shutil.copytree(REPOSITORY, folder, ignore=shutil.ignore_patterns(*ignored), symlinks=True)
    videos = tasks_dir() / "tiny" / "data"
    videos.mkdir(parents=True, exist_ok=True)
    (folder / "tasks" / "tiny" / "data").symlink_to(videos)
    for name in ("requirements.lock", "pyproject.toml"):
        os.utime(folder / name, (0, 0))
    return folder


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """Answers that the documents share, as they do for who reads one after the other; all else is each one's own."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture
def environment(copy, answers, tmp_path):
    if not (Path(sys.prefix) / "installed").exists():
        pytest.skip(f"{sys.prefix} was not made by `make setup`, so make would set up another one")
    (tmp_path / "runs").symlink_to(answers)
    mine = {"SHARPV_RESULTS": str(tmp_path), "PYTHONPATH": str(copy), "VENV": sys.prefix}
    mine |= {"ARGS": f"{FEW} {TWO}"}
    mine |= {"BENCH_TINY": "--model tiny --frames 2 --tokens 2 --repeats 2"}
    mine |= {"BENCH": "--model tiny --frames 1 --tokens 2 --repeats 2", "PROFILE": "tiny"}
    # A few questions of Table 3 are not its whole experiment, so their record has a name of its own.
    mine |= {"EXPERIMENT": "table3_partial"}
    before = installed()
    yield os.environ | mine | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    assert installed() == before, "a command has changed the environment that these tests run in"


def installed():
    """Which project's checkout the environment's sharpv is, and the time of every library's installation."""
    folder = Path(sysconfig.get_path("purelib"))
    (finder,) = folder.glob("__editable___sharpv*_finder.py")
    return finder.read_text(encoding="utf-8"), {path.name: path.stat().st_mtime for path in folder.glob("*.dist-info")}


def run(line, folder, environment):
    """As a shell does, but that `python`, and what `make` calls so, has made its imports already."""
    python = shlex.join(warm.python(environment, folder))
    line = re.sub("^python(?= )", python, re.sub("^make(?= )", f"make RUN={shlex.quote(python)}", line))
    return subprocess.run(line, shell=True, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def without_earlier_documents() -> dict[str, list[str]]:
    """The commands of each document without those that a document before it shows too."""
    shown, kept = [], {}
    for document in DOCUMENTS:
        both = without_repeats([*shown, *(line for line in commands(document) if line not in shown)])
        kept[document] = both[len(shown) :]
        shown = both
    return kept


COMMANDS = without_earlier_documents()


@pytest.mark.slow
@pytest.mark.parametrize("document", [name for name, lines in COMMANDS.items() if lines])
def test_commands_of_a_document_run_one_after_another(document, copy, environment):
    for command in COMMANDS[document]:
        line = shortened(command)
        done = run(line, copy, environment)
        missing_weights = re.match(r"python run\.py check\b", line) and "hf download" in done.stdout
        assert done.returncode == 0 or missing_weights, f"{line}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_of_a_document_lead_to_files_of_the_checkout(document):
    folder = (REPOSITORY / document).parent
    links = re.findall(r"\]\(([^)#\s]+)", (REPOSITORY / document).read_text(encoding="utf-8"))
    files = [link for link in links if not re.match(r"\w+:", link)]
    assert [link for link in files if not (folder / link).exists()] == []


@pytest.mark.parametrize("document", ["README.md", "docs/vllm.md", "docs/library.md"])
def test_python_of_a_document_runs(document, model, inputs, capsys, tmp_path, monkeypatch):
    """On the bundled checkpoint and a video of it where a block loads its own."""
    text = (REPOSITORY / document).read_text(encoding="utf-8")
    blocks = [code for language, mark, code in FENCED.findall(text) if language == "python" and mark not in ELSEWHERE]
    write_mp4(tmp_path / "video.mp4", render(sample_scene(3)))
    monkeypatch.chdir(tmp_path)
    names = {"model": model, "inputs": dict(inputs) | {"max_new_tokens": 2}}
    for block in blocks:
        code = re.sub(r"llava-hf/[\w.-]+", str(CHECKPOINT), block)
        exec(compile(code, document, "exec"), names)
    assert capsys.readouterr().out.strip()
    assert blocks


def test_marks_of_blocks_are_known_and_exemptions_are_shown():
    texts = {name: (REPOSITORY / name).read_text(encoding="utf-8") for name in DOCUMENTS}
    marks = {mark for text in texts.values() for _, mark, _ in FENCED.findall(text) if mark}
    assert marks <= set(ELSEWHERE)
    for command in LEFT_OUT:
        assert any(command in text for text in texts.values())

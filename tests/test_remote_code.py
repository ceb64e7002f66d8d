"""No code of a checkpoint runs, also where a person sits at a terminal and would say yes."""

import ast
import json
import os
import pty
import select
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sharpv.tiny import CHECKPOINT

ROOT = Path(__file__).parents[1]
LOAD = """
import dataclasses, sys
from sharpv.configuration import configure
configure.register_resolvers()
model = configure.build(configure.load("model", "tiny"))
dataclasses.replace(model, path=sys.argv[1]).load()
"""


def declares_code(folder: Path, name: str, classes: dict[str, str], **changed: str) -> Path:
    """A copy of the tiny checkpoint with a configuration that names classes of `evil.py` and the file it touches."""
    shutil.copytree(CHECKPOINT, folder)
    marker = folder / "ran"
    (folder / "evil.py").write_text(f"open({str(marker)!r}, 'w').close()\nclass Evil: ...\n", encoding="utf-8")
    settings = json.loads((folder / name).read_text(encoding="utf-8"))
    (folder / name).write_text(json.dumps(settings | {"auto_map": classes} | changed), encoding="utf-8")
    return marker


def answered_yes(command: list[str]) -> str:
    """What a command says at a terminal at which every question is answered with yes."""
    master, terminal = pty.openpty()
    process = subprocess.Popen(
        command, stdin=terminal, stdout=terminal, stderr=terminal, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    os.close(terminal)
    said = b""
    try:
        while True:
            if select.select([master], [], [], 0.2)[0]:
                said += (block := os.read(master, 4096))
                if b"[y/N]" in block:
                    os.write(master, b"y\n")
            elif process.poll() is not None:
                break
    except OSError:
        pass  # the other end of the terminal is closed
    finally:
        os.close(master)
    process.wait()
    return said.decode(errors="replace")


@pytest.mark.parametrize(
    ("name", "classes", "changed"),
    [
        ("tokenizer_config.json", {"AutoTokenizer": ["evil.Evil", None]}, {"tokenizer_class": "Evil"}),
        ("config.json", {"AutoConfig": "evil.Evil", "AutoModelForImageTextToText": "evil.Evil"}, {}),
    ],
)
def test_code_of_a_checkpoint_does_not_run_at_a_terminal(tmp_path, name, classes, changed):
    marker = declares_code(tmp_path / "checkpoint", name, classes, **changed)
    said = answered_yes([sys.executable, "-c", LOAD, str(tmp_path / "checkpoint")])
    assert "[y/N]" not in said
    assert not marker.exists()


def test_every_from_pretrained_forbids_remote_code():
    found = []
    for path in (ROOT / "sharpv").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "from_pretrained":
                given = {word.arg: getattr(word.value, "value", None) for word in node.keywords}
                if given.get("trust_remote_code") is not False:
                    found.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert not found

"""Every text file is read and written as UTF-8, whatever the locale."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = [
    ROOT / "run.py",
    *(path for folder in ("sharpv", "scripts", "tests") for path in (ROOT / folder).rglob("*.py")),
]


def opens_text(call: ast.Call) -> bool:
    """Whether a call reads or writes a text file without naming its encoding."""
    of_path = isinstance(call.func, ast.Attribute)
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    if any(keyword.arg in ("encoding", None) for keyword in call.keywords):
        return False
    if of_path and name in ("read_text", "write_text"):
        return True
    # A path's mode comes first, that of the built-in `open` second; what is no mode is a path, as of `av.open(path)`.
    given = call.args if of_path else call.args[1:]
    mode = getattr(given[0], "value", None) if given else None if call.keywords and of_path else "r"
    return name == "open" and re.fullmatch(r"[rwax]\+?t?", str(mode)) is not None


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("p.read_text()", True),
        ("p.read_text(encoding='utf-8')", False),
        ("p.write_text(x)", True),
        ("p.open()", True),
        ("p.open('a')", True),
        ("p.open('rb')", False),
        ("open(p)", True),
        ("open(p, 'wb')", False),
        ("av.open(str(p))", False),
    ],
)
def test_text_without_an_encoding_is_found(source, found):
    assert opens_text(ast.parse(source, mode="eval").body) is found


def test_no_file_is_read_or_written_in_the_locales_encoding():
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and opens_text(node)
    ]
    assert not found

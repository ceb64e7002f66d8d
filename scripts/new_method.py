"""Start a visual pruning method: its file, its configurations, and its line in the list that all tests go through.

python scripts/new_method.py my_method [--root FOLDER]

What is written works: it keeps a fixed share of each frame by a plain score, which the author then replaces.
"""

import argparse
import keyword
import re
import sys
from pathlib import Path

import jinja2

from sharpv.paths import REPOSITORY

TEMPLATES = Path(__file__).parent / "new_method"
WRITTEN = {
    "method.py.jinja": "sharpv/pruners/{name}.py",
    "visual.yaml.jinja": "configs/visual/{name}.yaml",
    "pruner.yaml.jinja": "configs/pruner/{name}.yaml",
}
TEST_LIST = "tests/methods.py"
TABLE = "configs/experiment/all_methods.yaml"


def class_name(name: str) -> str:
    """MyMethod for my_method."""
    return "".join(part.capitalize() for part in name.split("_"))


def new_method(name: str, root: Path) -> list[Path]:
    """Write all files of a method below `root`; those written or changed.

    ValueError, with nothing written, for a name that is no lower-case Python name or that something has already.
    """
    _check(name, root)
    loader = jinja2.FileSystemLoader(TEMPLATES)
    environment = jinja2.Environment(loader=loader, undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    values = {"name": name, "class_name": class_name(name)}
    texts = {
        root / path.format(name=name): environment.get_template(template).render(values)
        for template, path in WRITTEN.items()
    }
    texts[root / TEST_LIST] = _in_test_list((root / TEST_LIST).read_text(encoding="utf-8"), name)
    texts[root / TABLE] = _in_table((root / TABLE).read_text(encoding="utf-8"), name)
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
    return list(texts)


def _check(name: str, root: Path) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name) or keyword.iskeyword(name):
        raise ValueError(f"{name!r} must be a Python name in lower case with single underscores, such as my_method")
    taken = [root / path.format(name=name) for path in WRITTEN.values()]
    taken += [root / "configs" / "memory" / f"{name}.yaml"]
    found = [str(path.relative_to(root)) for path in taken if path.exists()]
    classes = [
        str(path.relative_to(root))
        for path in (root / "sharpv" / "pruners").glob("*.py")
        if re.search(rf"^class {class_name(name)}\b", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    if found or classes:
        raise ValueError(f"{name!r} is taken by {', '.join(found + classes)}: choose another name")


def _in_test_list(text: str, name: str) -> str:
    """The list of methods with the new one imported, in order, and tested at the end of VISUAL."""
    added = f"from sharpv.pruners.{name} import {class_name(name)}"
    imports = [line for line in text.splitlines() if line.startswith("from sharpv.pruners.")]
    behind = [line for line in imports if _module(line) < _module(added)][-1:]
    if not behind:
        raise ValueError(f"{TEST_LIST} imports no method before {name!r}: add the import by hand")
    text = text.replace(f"{behind[0]}\n", f"{behind[0]}\n{added}\n", 1)
    head, rest = text.split("VISUAL = [\n", 1)
    lines, tail = rest.split("\n]\n", 1)
    line = f"    Method({class_name(name)}(), {class_name(name)}(1), 9 / TOKENS),"
    return f"{head}VISUAL = [\n{lines}\n{line}\n]\n{tail}"


def _module(line: str) -> str:
    return line.split()[1]


def _in_table(text: str, name: str) -> str:
    """The experiment of all methods with the new row behind the listed ones."""
    listed = re.search(r"^rows:\n(?: +- .*\n)+", text, re.MULTILINE)
    if not listed:
        raise ValueError(f"{TABLE} lists no rows: add `rows:` with a row a line")
    return f"{text[: listed.end()]}  - {name}\n{text[listed.end() :]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", help="such as my_method")
    parser.add_argument("--root", type=Path, default=REPOSITORY)
    arguments = parser.parse_args()
    try:
        written = new_method(arguments.name, arguments.root)
    except ValueError as error:
        sys.exit(f"error: {error}")
    print("\n".join(str(path.relative_to(arguments.root)) for path in written))
    print(f"Now fill in sharpv/pruners/{arguments.name}.py; CONTRIBUTING.md says how. Does it work as it is?")
    print(f"  python -m pytest tests/test_all_methods.py -k {class_name(arguments.name)}")
    print(f"  python run.py pruner={arguments.name} benchmark=tiny_mvbench limit=5")


if __name__ == "__main__":
    main()

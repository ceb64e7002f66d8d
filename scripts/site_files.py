"""Hook of mkdocs: the site has the repository's layout, so that one and the same link works there and on GitHub.

Pages are README, CONTRIBUTING, CHANGELOG and docs/; whatever file of the repository they link to comes along, and the
pages among these with what they link to in turn. The notebook becomes a page, and the reference is made of docstrings.
"""

import json
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

REPOSITORY = Path(__file__).resolve().parents[1]
DOCUMENTS = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/*.md"]
NOTEBOOK = "docs/first_steps.ipynb"
LINK = re.compile(r"\]\(([^)#\s]+)")
MARKED_FENCE = re.compile(r"^( *```\w+) \w+$", re.MULTILINE)
"""GitHub takes the second word, by which the tests know what a block needs, for nothing; Python-Markdown does not."""
REFERENCE = {
    "pruner": ("A pruner around a model", ["sharpv.SharpV", "sharpv.pair"]),
    "report": ("What it did", ["sharpv.runtime.report", "sharpv.runtime.attach.attach"]),
    "stages": ("A method of your own", ["sharpv.pruners.base", "sharpv.tokens", "sharpv.pruners.view"]),
    "vllm": ("For vLLM", ["sharpv.export.vllm"]),
}


def on_files(files: Files, config: Any) -> Files:
    """Put the repository's pages, what they link to, the notebook's page and the reference on the site."""
    documents = [path for pattern in DOCUMENTS for path in sorted(REPOSITORY.glob(pattern))]
    for path in with_links([*documents, REPOSITORY / NOTEBOOK]):
        files.append(File.generated(config, path.relative_to(REPOSITORY).as_posix(), abs_src_path=str(path)))
    made = {NOTEBOOK.replace(".ipynb", ".md"): page_of(REPOSITORY / NOTEBOOK)} | reference()
    for name, content in made.items():
        files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    return MARKED_FENCE.sub(r"\1", markdown)


def with_links(paths: list[Path]) -> list[Path]:
    """These files and, from page to page, those of the repository that they link to; mkdocs names what there is not."""
    found = dict.fromkeys(paths)
    left = list(paths)
    while left:
        path = left.pop()
        if path.suffix in (".md", ".ipynb"):
            links = [(path.parent / link).resolve() for link in LINK.findall(path.read_text(encoding="utf-8"))]
            new = [link for link in links if link.is_file() and link.is_relative_to(REPOSITORY) and link not in found]
            found |= dict.fromkeys(new)
            left += new
    return list(found)


def page_of(notebook: Path) -> str:
    """A notebook's cells as Markdown, behind a link to itself."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    texts = [("".join(cell["source"]), cell["cell_type"]) for cell in cells]
    parts = [f"```python\n{text}\n```" if kind == "code" else text for text, kind in texts]
    return "\n\n".join([*parts, f"This page is a notebook: [{notebook.name}]({notebook.name}).\n"])


def reference() -> dict[str, str]:
    """Pages of mkdocstrings' directives."""
    pages = {page: (title, [f"::: {name}" for name in names]) for page, (title, names) in REFERENCE.items()}
    named = {name for _, names in REFERENCE.values() for name in names}
    stages = [
        f"sharpv.pruners.{path.stem}"
        for path in sorted((REPOSITORY / "sharpv/pruners").glob("[a-z]*.py"))
        if re.search(r"^class \w+\(", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    classes = "\n    options: {filters: ['!^[a-z_]']}"
    pages["methods"] = ("The methods", [f"::: {name}{classes}" for name in stages if name not in named])
    return {f"reference/{page}.md": "\n\n".join([f"# {title}", *parts]) for page, (title, parts) in pages.items()}

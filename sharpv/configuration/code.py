"""Which code a stored answer depends on: a hash of modules and of all that they import of this package and of others
that are told."""

import ast
import hashlib
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from importlib.util import resolve_name
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
Homes = Callable[[str], Path | None]
"""The folder of a top-level package, or the file of a top-level module, whose code counts; None for all others."""
OURS: Homes = {"sharpv": PACKAGE}.get
SHOWING = ("sharpv.reports.", "sharpv.summary")
"""What texts and pictures of an answer are made by: it changes none."""


def code_hash(modules: Iterable[str], homes: Homes = OURS) -> str:
    """sha256 over these modules and what they import of `homes`, at any depth and wherever it stands in a file.

    Comments, formatting and docstrings do not count. ValueError for a module that is not there.
    """
    digest, found, waiting = hashlib.sha256(), dict[str, str](), list(modules)
    while waiting:
        name = waiting.pop()
        if name not in found:
            path = _file(name, homes)
            if path is None:
                raise ValueError(f"no module {name} in {homes(name.split('.')[0])}")
            found[name], imports = _parsed(path.read_bytes())
            inside = name if path.name == "__init__.py" else name.rpartition(".")[0]
            waiting += [one for node in imports for one in _imported(node, inside, homes)]
    for name in sorted(found):
        digest.update(f"{name}\n{found[name]}\n".encode())
    return digest.hexdigest()


@cache
def _parsed(source: bytes) -> tuple[str, list[ast.Import | ast.ImportFrom]]:
    """What counts of a module as text, and its imports; kept, since every cell and row asks for the same modules."""
    tree = ast.parse(source)
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    return ast.dump(_without_docstrings(tree)), imports


def _file(name: str, homes: Homes) -> Path | None:
    """The file of a module, `__init__.py` for a package; None where there is neither."""
    top, *inner = name.split(".")
    home = homes(top)
    if home is None:
        return None
    path = home.joinpath(*inner)
    choices = (path, path.with_suffix(".py"), path / "__init__.py")
    return next((choice for choice in choices if choice.is_file()), None)


def _imported(node: ast.Import | ast.ImportFrom, package: str, homes: Homes) -> Iterator[str]:
    """The modules whose code counts that an import in a package names, its packages only where something else is taken
    from them."""
    if isinstance(node, ast.Import):
        named = [alias.name for alias in node.names]
    else:
        home = resolve_name("." * node.level + (node.module or ""), package)
        modules = [f"{home}.{alias.name}" for alias in node.names]
        named = [name if _file(name, homes) else home for name in modules]
    yield from (name for name in named if not name.startswith(SHOWING) and _file(name, homes))


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [one for one in node.body if not _is_text(one)]
    return tree


def _is_text(node: ast.stmt) -> bool:
    value = node.value if isinstance(node, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)

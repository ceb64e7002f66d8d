"""Which code a stored answer depends on: a hash of modules of this package and of all of it that they import."""

import ast
import hashlib
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
SHOWING = ("sharpv.reports.", "sharpv.summary")
"""What texts and pictures of an answer are made by: it changes none."""


def code_hash(modules: Iterable[str], package: Path = PACKAGE) -> str:
    """sha256 over these modules and their imports within the package, at any depth and wherever they stand in a file.

    Comments, formatting and docstrings do not count. package: the folder that holds the code. ValueError for a module
    that is not there.
    """
    digest, found, waiting = hashlib.sha256(), dict[str, str](), list(modules)
    while waiting:
        name = waiting.pop()
        if name not in found:
            path = _file(name, package)
            if path is None:
                raise ValueError(f"no module {name} in {package}")
            found[name], imports = _parsed(path.read_bytes())
            waiting += [one for node in imports for one in _imported(node, name, package)]
    for name in sorted(found):
        digest.update(f"{name}\n{found[name]}\n".encode())
    return digest.hexdigest()


@cache
def _parsed(source: bytes) -> tuple[str, list[ast.Import | ast.ImportFrom]]:
    """What counts of a module as text, and its imports; kept, since every cell and row asks for the same modules."""
    tree = ast.parse(source)
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    return ast.dump(_without_docstrings(tree)), imports


def _file(name: str, package: Path) -> Path | None:
    """The file of a module, `__init__.py` for a package; None where there is neither."""
    path = package.parent.joinpath(package.name, *name.split(".")[1:])
    choices = (path.with_suffix(".py"), path / "__init__.py")
    return next((choice for choice in choices if choice.is_file()), None)


def _imported(node: ast.AST, of: str, package: Path) -> Iterator[str]:
    """The package's modules that an import names, its packages only where something else is taken from them."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "sharpv")
    elif isinstance(node, ast.ImportFrom):
        if node.level:
            raise ValueError(f"module {of} has a relative import, which is not followed: name the module in full")
        home = node.module or ""
        if home.split(".")[0] == "sharpv":
            modules = [f"{home}.{alias.name}" for alias in node.names]
            found = (name if _file(name, package) else home for name in modules)
            yield from (name for name in found if not name.startswith(SHOWING))


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [one for one in node.body if not _is_text(one)]
    return tree


def _is_text(node: ast.stmt) -> bool:
    value = node.value if isinstance(node, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)

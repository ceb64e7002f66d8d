"""Folders of configurations: ours, and those of other packages that declare methods. One does so by an entry point,

    [project.entry-points."sharpv.pruners"]
    my_method = "my_package"

which names the module that holds its classes, itself or below. Beside that module a folder `configs/` has visual/,
memory/ and pruner/ as ours does, so that `pruner=my_method` and `Pruner.of("my_method")` work as for a method of ours.
"""

import sys
from functools import cache
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

from sharpv import paths

GROUP = "sharpv.pruners"


def packages() -> dict[str, Path]:
    """Module and folder of each package that declares methods. ValueError for a module that is not there."""
    return _packages(tuple(sys.path))


@cache
def _packages(path: tuple[str, ...]) -> dict[str, Path]:
    """As `packages`; what is installed only changes with the import path."""
    found = {}
    for entry in entry_points(group=GROUP):
        spec = find_spec(entry.module.split(".")[0]) and find_spec(entry.module)
        if spec is None or spec.origin is None:
            raise ValueError(
                f"entry point {entry.name} of {GROUP} names the module {entry.module}, which cannot be found: "
                "install its package again or remove it"
            )
        found[entry.module] = Path(spec.origin).parent
    return found


def distributions() -> set[str]:
    """Names of what was installed that declares methods."""
    return {entry.dist.name for entry in entry_points(group=GROUP) if entry.dist}


def config_folders() -> list[Path]:
    """This repository's configurations, then those of other packages. ValueError where two have the same name."""
    folders = [paths.configs_dir(), *(folder / "configs" for folder in packages().values())]
    first: dict[Path, Path] = {}
    for folder in folders:
        for file in folder.glob("*/*.yaml"):
            other = first.setdefault(file.relative_to(folder), file)
            if other != file:
                raise ValueError(f"{file} and {other} have the same name: rename the first")
    return folders

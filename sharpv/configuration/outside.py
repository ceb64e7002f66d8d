"""Methods of other packages. One declares itself by an entry point,

    [project.entry-points."sharpv.pruners"]
    my_method = "my_package"

which names the module that holds its classes, itself or below. Beside that module a folder `configs/` has visual/,
memory/ and pruner/ as the one of this repository does, so that `pruner=my_method` works as for a method of ours.
"""

import hashlib
import sys
from functools import cache
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.utils import get_object
from omegaconf import DictConfig, ListConfig

from sharpv.configuration.code import code_hash
from sharpv.paths import configs_dir

GROUP = "sharpv.pruners"
CONFIGS = configs_dir()


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


def config_folders() -> list[Path]:
    """This repository's configurations, then those of other packages. ValueError where two have the same name."""
    folders = [CONFIGS, *(folder / "configs" for folder in packages().values())]
    first: dict[Path, Path] = {}
    for folder in folders:
        for file in folder.glob("*/*.yaml"):
            other = first.setdefault(file.relative_to(folder), file)
            if other != file:
                raise ValueError(f"{file} and {other} have the same name: rename the first")
    return folders


def require_own(config: Any) -> None:
    """ValueError where a configuration names as `_target_` anything but a class that this package, or one that declares
    methods for it, defines: `sharpv.paths.os.system` is none."""
    modules = ("sharpv", *packages())
    for target in _targets_in(config):
        owned = any(target.startswith(f"{module}.") for module in modules)
        named = get_object(target) if owned else None
        home = f"{getattr(named, '__module__', '')}."
        if not isinstance(named, type) or not any(home.startswith(f"{module}.") for module in modules):
            raise ValueError(
                f"_target_={target!r} is not a class of {' or '.join(modules)}: a configuration may name no other"
            )


def with_code(config: dict[str, Any] | None) -> dict[str, Any] | None:
    """A stage's configuration with the hash of the code that its classes can reach in this package, and of each other
    package that it names, so that its stored answers are not used again when that code has changed."""
    named = _targets_in(config)
    code = {
        module: _code_hash(folder)
        for module, folder in packages().items()
        if any(target.startswith(f"{module}.") for target in named)
    }
    if own := sorted({target.rpartition(".")[0] for target in named if target.startswith("sharpv.")}):
        code["sharpv"] = code_hash(own)
    return {**config, "_code_": code} if config and code else config


def _targets_in(config: Any) -> list[str]:
    if isinstance(config, list | tuple | ListConfig):
        return [target for value in config for target in _targets_in(value)]
    if not isinstance(config, dict | DictConfig):
        return []
    own = [str(config["_target_"])] if "_target_" in config else []
    return own + [target for value in config.values() for target in _targets_in(value)]


def _code_hash(folder: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*.py")):
        digest.update(str(file.relative_to(folder)).encode() + file.read_bytes())
    return digest.hexdigest()


class OutsideConfigs(SearchPathPlugin):
    """Lets Hydra find the configurations of other packages, behind our own."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for folder in config_folders()[1:]:
            search_path.append("sharpv-outside", f"file://{folder}")

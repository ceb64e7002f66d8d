"""Methods of other packages, which `sharpv.configuration.folders` finds: only their classes are built, and Hydra finds
their configurations."""

import sys
from functools import cache
from importlib.metadata import packages_distributions
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.utils import get_object
from omegaconf import DictConfig, ListConfig

from sharpv import paths
from sharpv.configuration.code import PACKAGE, code_hash
from sharpv.configuration.folders import config_folders, distributions, packages

CONFIGS = paths.configs_dir()


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
        module: _code_hash(module, folder)
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


def _code_hash(module: str, folder: Path) -> str:
    """Of all code of a package that declares methods, or of its one file, with what it imports of ours and its own."""
    one_file = folder / f"{module.rpartition('.')[2]}.py"
    files = [one_file] if one_file.is_file() else sorted(folder.rglob("*.py"))
    inner = [() if file == one_file else file.relative_to(folder).with_suffix("").parts for file in files]
    return code_hash((".".join([module, *parts]).removesuffix(".__init__") for parts in inner), _home)


def _home(top: str) -> Path | None:
    """Where a top-level module lies, if it is this package, of a distribution that declares methods, or of none, such
    as a file beside one's own package; None for all that others distribute."""
    return PACKAGE if top == "sharpv" else _own_home(top, tuple(sys.path))


@cache
def _own_home(top: str, path: tuple[str, ...]) -> Path | None:
    """As `_home` for others than this package; what is installed only changes with the import path."""
    if top in sys.stdlib_module_names or set(_distributions(path).get(top, ())) - distributions():
        return None
    spec = find_spec(top)
    if spec is None or spec.origin is None:
        return None
    origin = Path(spec.origin)
    return origin.parent if origin.name == "__init__.py" else origin


@cache
def _distributions(path: tuple[str, ...]) -> dict[str, list[str]]:
    """Names of the distributions that hold each top-level module."""
    return dict(packages_distributions())


class OutsideConfigs(SearchPathPlugin):
    """Lets Hydra find the configurations of other packages, behind our own."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for folder in config_folders()[1:]:
            search_path.append("sharpv-outside", f"file://{folder}")

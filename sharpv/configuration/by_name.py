"""Methods by their names in configs/pruner, without Hydra: what `Pruner.of` and `Pruner.names` stand on.

What needs torch is imported where it is needed: `status` and `make`'s choice of a profile start in a second.
"""

import dataclasses
import difflib
import inspect
import re
import textwrap
from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from sharpv.configuration.folders import config_folders, packages

if TYPE_CHECKING:
    from sharpv.pruners.base import MemoryPruner, VisualPruner

    Stage = VisualPruner | MemoryPruner

STAGES = ("visual", "memory")
OF_MODEL = re.compile(r"\$\{model\.([\w.]+)\}")
"""A setting that a model's configuration holds, such as a calibrated threshold."""
LETTERS = 140
"""Of a line, at most."""


def stages(name: str, settings: Mapping[str, Any], model: str | None = None) -> dict[str, Any]:
    """Both stages of a name, `visual` and `memory`, with these settings in place of its own; None for none.

    ValueError naming the nearest for an unknown name, field or model, for a field that both stages have, and for a
    value that the method refuses.
    """
    row = read("pruner", name)
    given = placed(name, row, settings)
    of_model = None if model is None else read("model", model)
    return {stage: _stage(name, row, stage, given[stage], of_model) for stage in STAGES}


def lines() -> dict[str, str]:
    """Each name with its method's name and what its stages do, by the first sentences of their docstrings.

    Of names that differ by options only, as the points of an ablation, one is here; `stages` takes them all.
    """
    rows = {name: read("pruner", name) for name in _files("pruner")}
    listed = [name for name in rows if not _has_options(rows[name])]
    seen = {_chosen(rows[name]) for name in listed}
    for name in sorted(set(rows) - set(listed)):
        if _chosen(rows[name]) not in seen:
            listed.append(name)
            seen.add(_chosen(rows[name]))
    return {name: _line(rows[name]) for name in sorted(listed)}


def placed(name: str, row: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Settings by the stage of a row that has the field; ValueError as `stages` says. `visual_options` and
    `memory_options` are themselves mappings of a stage's settings."""
    kinds: dict[str, Any] = dict(_classes(row))
    fields = {stage: [one.name for one in dataclasses.fields(kind)] for stage, kind in kinds.items()}
    given: dict[str, dict[str, Any]] = {stage: dict(settings.get(f"{stage}_options") or {}) for stage in STAGES}
    for field, value in settings.items():
        if field.removesuffix("_options") in STAGES:
            continue
        having = [stage for stage in fields if field in fields[stage]]
        if len(having) > 1:
            raise ValueError(
                f"{name}: both stages have a field {field!r}; say which: visual_options={{{field!r}: ...}} or "
                f"memory_options={{{field!r}: ...}}"
            )
        given[having[0] if having else next(iter(fields), "visual")][field] = value
    for stage, values in given.items():
        if unknown := sorted(set(values) - set(fields.get(stage, []))):
            known = {one: f"{of}: {', '.join(of_stage)}" for of, of_stage in fields.items() for one in of_stage}
            raise ValueError(
                f"{name} has no field {unknown[0]!r}.{_nearest(unknown[0], known)} Its fields are "
                f"{'; '.join(dict.fromkeys(known.values())) or 'none'}"
            )
    return given


def read(group: str, name: str) -> dict[str, Any]:
    """A configuration file as it is written. ValueError naming the nearest of an unknown name."""
    path = _files(group).get(name)
    if path is None:
        near, listed = _nearest(name, _files(group)), lines() if group == "pruner" else _files(group)
        raise ValueError(f"unknown {group} {name!r}.{near} There are: {', '.join(sorted(listed))}")
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def _files(group: str) -> dict[str, Path]:
    return {path.stem: path for folder in config_folders() for path in (folder / group).glob("*.yaml")}


def _chosen(row: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(row[stage]) for stage in STAGES)


def _has_options(row: Mapping[str, Any]) -> bool:
    return any(row.get(f"{stage}_options") for stage in STAGES)


def _config(stage: str, choice: str | Mapping[str, Any]) -> dict[str, Any]:
    return read(stage, choice) if isinstance(choice, str) else dict(choice)


def _classes(row: Mapping[str, Any]) -> dict[str, type["Stage"]]:
    return {stage: _class(_config(stage, row[stage])["_target_"]) for stage in STAGES if row.get(stage) is not None}


def _class(target: str) -> type["Stage"]:
    """ValueError for a class that neither this package defines nor one that declares methods for it."""
    from sharpv.pruners.base import MemoryPruner, VisualPruner

    module, _, name = target.rpartition(".")
    owners, found = ("sharpv", *packages()), None
    if any(target.startswith(f"{owner}.") for owner in owners):
        try:
            found = getattr(import_module(module), name, None)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{module}.".startswith(f"{error.name}."):
                raise ValueError(f"_target_={target!r} cannot be imported: {error}") from error
    if not (isinstance(found, type) and issubclass(found, VisualPruner | MemoryPruner)):
        raise ValueError(f"_target_={target!r} is no stage of {' or '.join(owners)}: a configuration may name no other")
    return found


def _stage(
    name: str, row: Mapping[str, Any], stage: str, given: Mapping[str, Any], model: Mapping[str, Any] | None
) -> Any:
    if row.get(stage) is None:
        return None
    own = _config(stage, row[stage])
    kind = _class(own.pop("_target_"))
    # What a stage's file leaves to the model's calibration is, without one, the class's own default, the paper's.
    own = {field: _of_model(value, model) for field, value in own.items() if model or not _is_of_model(value)}
    options = {**(row.get(f"{stage}_options") or {}), **given}
    if left := [field for field, value in options.items() if _is_of_model(value) and not model]:
        raise ValueError(
            f"{name} takes {left[0]} from a model's calibration: name one, as model='llava_ov_7b', or give {left[0]}"
        )
    return _built(kind, {**own, **{field: _of_model(value, model) for field, value in options.items()}})


def _built(kind: type["Stage"], settings: Mapping[str, Any]) -> "Stage":
    """A stage, whose settings may be stages in turn, as the reference of a control."""
    made = {
        field: _built(_class(value["_target_"]), {key: one for key, one in value.items() if key != "_target_"})
        if isinstance(value, Mapping) and "_target_" in value
        else value
        for field, value in settings.items()
    }
    return kind(**made)


def _is_of_model(value: Any) -> bool:
    return isinstance(value, str) and OF_MODEL.fullmatch(value) is not None


def _of_model(value: Any, model: Mapping[str, Any] | None) -> Any:
    if model is None or not _is_of_model(value):
        return value
    found: Any = model
    place = OF_MODEL.sub(r"\1", value)
    for part in place.split("."):
        if not isinstance(found, Mapping) or part not in found:
            raise ValueError(f"model {model['name']!r} has no {place}: it was not calibrated for this method")
        found = found[part]
    return found


def _line(row: Mapping[str, Any]) -> str:
    sentences = [_first_sentence(kind) for kind in _classes(row).values()]
    return textwrap.shorten(f"{row['method']}: {'; '.join(sentences) or 'prunes nothing'}", LETTERS, placeholder=" …")


def _first_sentence(kind: type) -> str:
    paragraph = " ".join((inspect.getdoc(kind) or kind.__name__).split("\n\n")[0].split())
    return re.split(r"(?<!Eq)\.(?:\s|$)", paragraph)[0]


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""

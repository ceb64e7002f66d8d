"""From configuration files to objects; every object by `_target_`, every mistyped name answered with the valid ones."""

import dataclasses
import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.errors import HydraException, InstantiationException
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig, OmegaConf

from sharpv.checks import holds
from sharpv.configuration import by_name, outside
from sharpv.configuration.budgets import DEPTH, Reach, Unreachable, at_budgets
from sharpv.configuration.rows import Row, repetitions
from sharpv.tiny import CHECKPOINT

CONFIGS = outside.CONFIGS
TEXTS = (
    *("video", "question", "title", "table", "calibrate.folder", "judge.base_url", "judge.model", "judge.prompt_file"),
    *("model.path", "model.prompt", "model.display", "model.name", "wandb.project", "pruner.method"),
)
"""Settings that are free text or a path."""
STAGES = ("visual", "memory", "visual_options", "memory_options")
"""What a pruner's configuration says of its two stages."""
OPTIONS = ("visual_options", "memory_options")
FIELDS = ("name", "method", "kind", *STAGES, "seeds")


def register_resolvers() -> None:
    """Tell OmegaConf the bundled model's folder, `${tiny_checkpoint:}`, and Hydra the methods of other packages."""
    Plugins.instance().register(outside.OutsideConfigs)
    OmegaConf.register_new_resolver("tiny_checkpoint", lambda: str(CHECKPOINT), replace=True)


def quoted(argument: str) -> str:
    """A command line's text in Hydra's quotes: all of `video=` and `question=`, whose paths and questions hold commas
    and apostrophes, and of the other texts what Hydra would not read as one: a path with ü ( = [ or ~."""
    name, _, value = argument.partition("=")
    name = name.lstrip("+")
    if name not in TEXTS or not value or value[0] in "'\"":
        return argument
    if name not in ("video", "question") and _is_text(argument):
        return argument
    # A backslash is special to Hydra only where a quote follows.
    escaped = re.sub(r'(\\*)("|$)', lambda found: 2 * found[1] + ('\\"' if found[2] else ""), value)
    return f'{argument.partition("=")[0]}="{escaped}"'


def _is_text(argument: str) -> bool:
    """Whether Hydra reads an argument's value as text, number or sweep, not as a list, a mapping or an error."""
    try:
        value = OverridesParser.create().parse_override(argument).value()
    except HydraException:
        return False
    return not isinstance(value, list | dict)


def build(config: Any) -> Any:
    """The object that a configuration's `_target_` names, of this package or of one that declares methods for it.

    ValueError where it does not take these settings, or where it is another package's.
    """
    outside.require_own(config)
    try:
        return instantiate(config)
    except (InstantiationException, TypeError) as error:
        reason = " ".join(str(error.__cause__ or error).split())
        if unknown := re.search(r"unexpected keyword argument '(\w+)'", reason):
            fields = [field.name for field in dataclasses.fields(get_class(config["_target_"])) if field.init]
            near = difflib.get_close_matches(unknown[1], fields, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            reason = f"there is no {unknown[1]!r}.{hint} There are: {', '.join(fields)}"
        raise ValueError(f"{config.get('_target_')} cannot be made of these settings: {reason}") from error


def names(group: str) -> list[str]:
    """The configurations that a group holds."""
    return sorted(path.stem for folder in outside.config_folders() for path in (folder / group).glob("*.yaml"))


def load(group: str, name: str) -> DictConfig:
    """One configuration file. ValueError naming the valid names, the nearest first."""
    paths = [folder / group / f"{name}.yaml" for folder in outside.config_folders()]
    path = next((path for path in paths if path.exists()), None)
    if path is None:
        near = difflib.get_close_matches(name, names(group), n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"unknown {group} {name!r}.{hint} There are: {', '.join(names(group))}")
    try:
        config = OmegaConf.load(path)
    except yaml.YAMLError as error:
        raise ValueError(f"{path} cannot be read as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(config, DictConfig) or not config:
        raise ValueError(f"{path} is empty or a list: it must hold settings, one `name: value` a line")
    return config


def stage(group: str, choice: Any, options: DictConfig | None, model: DictConfig) -> dict[str, Any] | None:
    """The resolved configuration of a stage: a name from configs/<group>/, or a mapping with `_target_`, or null."""
    if choice is None:
        return None
    config = load(group, choice) if isinstance(choice, str) else choice
    if options:
        config = OmegaConf.merge(config, options)
    holder = OmegaConf.create({"model": model, "stage": config})
    resolved: Any = OmegaConf.to_container(holder.stage, resolve=True)
    assert isinstance(resolved, dict)
    return resolved


def rows(pruner: DictConfig, model: DictConfig) -> list[Row]:
    """The table rows, one a seed, of a pruner configuration. ValueError for fields or seeds that it cannot have."""
    given = {*map(str, pruner)}
    if odd := (given - {*FIELDS}) | ({*FIELDS} - given - {*OPTIONS}):
        wrong = [f"{name} is {'unknown' if name in pruner else 'missing'}" for name in sorted(odd)]
        raise ValueError(f"pruner {pruner.get('name')!r}: {', '.join(wrong)}; its fields are {', '.join(FIELDS)}")
    if not holds(pruner.seeds, list[int]) or not pruner.seeds or min(pruner.seeds) < 0:
        raise ValueError(f"pruner.seeds={pruner.seeds!r} must be a list of whole numbers, as seeds=[0,1,2]")
    settings = {
        "visual": stage("visual", pruner.visual, pruner.get("visual_options"), model),
        "memory": stage("memory", pruner.memory, pruner.get("memory_options"), model),
    }
    built = {name: build(config) if config else None for name, config in settings.items()}
    recorded = {name: outside.with_code(config) for name, config in settings.items()}
    row = Row(*_identity(pruner), 0, built["visual"], built["memory"], recorded)
    return repetitions(row, list(pruner.seeds))


def _identity(pruner: DictConfig) -> tuple[str, str, Any]:
    """Name, method and kind: those of its file, unless stages or options were changed and the name was not.

    Such a row is called by what it is: "random_frame + sharpv (threshold=0.5)". A table must not show it as the method
    of that file.
    """
    if pruner.name not in names("pruner"):
        return pruner.name, pruner.method, pruner.kind
    plain: Any = OmegaConf.to_container(pruner, resolve=False)
    of_file: Any = OmegaConf.to_container(load("pruner", pruner.name), resolve=False)
    if all((plain.get(part) or None) == (of_file.get(part) or None) for part in STAGES):
        return pruner.name, pruner.method, pruner.kind
    chosen = ("visual", "memory")
    parts = [_described(plain[stage], plain.get(f"{stage}_options")) for stage in chosen if plain[stage]]
    if not parts and of_file["kind"] != "dense":
        raise ValueError(
            f"pruner.visual and pruner.memory of {pruner.name!r} are both null, which prunes nothing: the dense row "
            "stands in every table; choose a stage, or pruner=dense"
        )
    name = " + ".join(parts) or "no stage"
    return name, name, "method" if parts else "dense"


def _described(choice: str | dict[str, Any], options: dict[str, Any] | None) -> str:
    name = choice if isinstance(choice, str) else choice["_target_"].rpartition(".")[2]
    changed = ", ".join(f"{option}={value}" for option, value in (options or {}).items())
    return f"{name} ({changed})" if changed else name


def models(config: DictConfig) -> list[DictConfig]:
    """The models of a run: those of its list, else the one chosen; each at each number of `frames` if there are any,
    then called by it, `tiny@16`."""
    chosen = [load("model", name) for name in config.models] or [config.model]
    return (
        [_with_frames(model, frames) for model in chosen for frames in config.frames]
        if config.get("frames")
        else chosen
    )


def _with_frames(model: DictConfig, frames: int) -> DictConfig:
    changed = {"frames": frames, "name": f"{model.name}@{frames}", "display": f"{model.display}, {frames} frames"}
    return cast(DictConfig, OmegaConf.merge(model, changed))


def pruner_of(text: str) -> DictConfig:
    """A pruner by its name, with settings of its stages behind it: "evs keep_ratio=0.1", "holitom memory.layer=12".

    ValueError for what is no `field=value`, and as `by_name.placed`.
    """
    name, *settings = text.split()
    pruner, given = load("pruner", name), dict[str, Any]()
    for setting in settings:
        path, equals, value = setting.partition("=")
        stage, _, field = path.rpartition(".")
        if not equals or stage not in ("", *by_name.STAGES):
            raise ValueError(f"row {text!r}: {setting!r} must be field=value, visual.field=value or memory.field=value")
        place = given.setdefault(f"{stage}_options", {}) if stage else given
        place[field] = yaml.safe_load(value)
    for stage, options in by_name.placed(name, pruner, given).items():
        OmegaConf.update(pruner, f"{stage}_options", options, merge=True, force_add=True)
    return pruner


def table_rows(config: DictConfig, model: DictConfig) -> tuple[list[Row], list[Unreachable]]:
    """All rows of a run, those of an experiment, else dense and the one pruner asked for, each at all `budgets` where
    there are any; and what no row could be made for. With `frames` the fewest are for dense alone, whose budget the
    other rows have at more.

    ValueError where the dense row is not among them.
    """
    chosen = [pruner_of(text) for text in config.rows] if config.rows else [load("pruner", "dense"), config.pruner]
    made = [(row, pruner) for pruner in chosen for row in rows(pruner, model)]
    found, beyond = [row for row, _ in made], list[Unreachable]()
    if not any(row.kind == "dense" for row in found):
        raise ValueError(f"rows={list(config.rows)} lack the row that all are compared with: add dense")
    budgets = list(config.budgets)
    if config.frames:
        fewest = min(config.frames)
        if model.frames == fewest:
            found = [row for row in found if row.kind == "dense"]
        elif model.frames > (config.dense_frames or model.frames):
            found = [row for row in found if row.kind != "dense"]
        budgets = [fewest / model.frames] if model.frames > fewest else []
    if budgets:
        built = build(model)
        calibrated: Any = OmegaConf.to_container(model.get("calibration") or OmegaConf.create(), resolve=True)
        reach = Reach(model.name, built.frames_of_tokens, built.depth() or DEPTH, calibrated.get("budgets", {}))
        found, beyond = at_budgets(found, budgets, reach)
        asked = {row.name: (row, _given(pruner)) for row, pruner in made}
        for row in found:
            if row.budget is not None:
                before, given = asked[row.name.removesuffix(f"@{row.budget:g}")]
                _require_kept(before, row, given)
    unique = {(row.name, row.seed): row for row in found}
    return sorted(unique.values(), key=lambda row: row.kind != "dense"), beyond


def _given(pruner: DictConfig) -> dict[str, list[str]]:
    """The options of each stage that are not those of the pruner's file."""
    if pruner.name not in names("pruner"):
        return {}
    mine: Any = OmegaConf.to_container(pruner, resolve=False)
    of_file: Any = OmegaConf.to_container(load("pruner", pruner.name), resolve=False)
    of_stages = {
        stage: (mine.get(f"{stage}_options") or {}, of_file.get(f"{stage}_options") or {}) for stage in by_name.STAGES
    }
    return {
        stage: [name for name in options if name not in former or options[name] != former[name]]
        for stage, (options, former) in of_stages.items()
    }


def _require_kept(before: Row, after: Row, given: Mapping[str, list[str]]) -> None:
    """ValueError where a budget overrules what a row was given."""
    for stage, fields in given.items():
        was, now = getattr(before, stage), getattr(after, stage)
        for field in fields if was is not None and now is not None else []:
            if getattr(was, field) != getattr(now, field):
                raise ValueError(
                    f"row {before.name!r} is given {field}={getattr(was, field)}, which its budget of "
                    f"{after.budget:.3g} sets to {getattr(now, field)}: leave it out, or ask for it without budgets"
                )


def require_effect(config: DictConfig, overrides: Sequence[str]) -> None:
    """ValueError for an override of the command line that a list of the same run makes void."""
    for chosen, of in (("pruner", "rows"), ("model", "models"), ("benchmark", "benchmarks")):
        void = [given for given in overrides if re.match(rf"[+~]*{chosen}[=.]", given)]
        if config[of] and void:
            raise ValueError(
                f"{void[0]} would have no effect: this run is over {of}={list(config[of])}, from its experiment, its "
                f"profile or the command line; leave {void[0]} out, or give {of}=[...] instead"
            )

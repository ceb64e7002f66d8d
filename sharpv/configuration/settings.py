"""The settings of configs/config.yaml: each has a rule, checked before anything is loaded, made or written."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from sharpv.benchmarks.judge import judge_of
from sharpv.checks import holds
from sharpv.configuration import configure
from sharpv.configuration.rows import Row

MOST_THREADS, MOST_WORKERS = 1024, 256
LOADING = ("run", "calibrate", "demo")
"""Commands that load a model."""


@dataclass(frozen=True)
class Rule:
    """What a setting must be, in words, and whether a value is that."""

    said: str
    met: Callable[[Any], bool]


def _whole(least: int, most: float = math.inf) -> Rule:
    bounds = f"from {least} to {most}" if math.isfinite(most) else f"{least} or more"
    return Rule(f"a whole number, {bounds}", lambda value: holds(value, int) and least <= value <= most)


def _or_null(rule: Rule) -> Rule:
    return Rule(f"{rule.said}, or null", lambda value: value is None or rule.met(value))


def _list_of(what: str, kind: Any) -> Rule:
    def met(value: Any) -> bool:
        return isinstance(value, Sequence) and not isinstance(value, str) and all(holds(one, kind) for one in value)

    return Rule(f"a list of {what}, in brackets: [one,two]", met)


def _is_table_name(value: Any) -> bool:
    parts = value.split("/") if isinstance(value, str) else []
    return bool(parts) and all(re.fullmatch(r"\w[\w .+=,-]*", part) for part in parts)


TEXT = Rule("text", lambda value: isinstance(value, str) and bool(value.strip()))
SWITCH = Rule("true or false", lambda value: isinstance(value, bool))
MAPPING = Rule("a mapping of its settings", lambda value: isinstance(value, Mapping))
SHARE = Rule("a share between 0 and 1, as 0.49", lambda value: holds(value, float) and 0 < value < 1)
NUMBER = Rule("a number, 0 or more", lambda value: holds(value, float) and value >= 0)
POSITIVE = Rule("a number above 0", lambda value: holds(value, float) and value > 0)
NAMES = _list_of("names", str)
RULES = {
    **dict.fromkeys(
        ("model", "pruner", "benchmark", "plan", "calibrate", "judge", "wandb", "of_profile", "rehearse"), MAPPING
    ),
    **dict.fromkeys(("rows", "models", "benchmarks"), NAMES),
    "budgets": Rule(
        "a list of shares above 0 and below 1, in brackets: [0.25,0.1]",
        lambda value: holds(value, list[float]) and all(0 < one < 1 for one in value),
    ),
    "frames": Rule(
        "a list of whole numbers, 1 or more, each once, in brackets: [32,64]",
        lambda value: holds(value, list[int]) and all(one > 0 for one in value) and len(set(value)) == len(value),
    ),
    "dense_frames": _or_null(_whole(1)),
    "limit": _or_null(_whole(1)),
    **dict.fromkeys(("allow_errors", "memory_every", "warm_up"), _whole(0)),
    "threads": _or_null(_whole(1, MOST_THREADS)),
    "dry_run": SWITCH,
    "workers": _or_null(_whole(0, MOST_WORKERS)),
    "frames_cache": _or_null(TEXT),
    "reference": _or_null(TEXT),
    "table": Rule("a file's name without ending, below results/", _is_table_name),
    "title": TEXT,
    **dict.fromkeys(("target_vr", "target_mr", "calibrate.target_vr", "calibrate.target_mr"), _or_null(SHARE)),
    **dict.fromkeys(("videos", "calibrate.videos"), _whole(1)),
    "calibrate.folder": _or_null(TEXT),
    "video": _or_null(TEXT),
    "question": _or_null(TEXT),
    "options": _list_of("answers", str | int | float | bool),
    "scoring": Rule("ours or upstream", lambda value: value in ("ours", "upstream")),
    "judge.base_url": _or_null(TEXT),
    "judge.model": TEXT,
    "judge.prompt_file": _or_null(TEXT),
    "judge.workers": _whole(1, MOST_WORKERS),
    "wandb.mode": Rule("disabled, offline or online", lambda value: value in ("disabled", "offline", "online")),
    "wandb.project": TEXT,
    "plan.gpus": _whole(1),
    "plan.measured": _or_null(TEXT),
    **dict.fromkeys(("rehearse.questions", "rehearse.files"), _whole(1)),
    "rehearse.video_seconds": POSITIVE,
    "rehearse.layers": _or_null(_whole(2)),
    "rehearse.frames": _or_null(_whole(1)),
    "rehearse.folder": _or_null(TEXT),
    "plan.cores_per_gpu": _whole(2),
}
"""Of each setting by its name."""
COLUMNS = Rule(
    "a list of Table 3's columns, or a column of its own with its heading, as {my_videos: My videos}",
    lambda value: NAMES.met(value) or (isinstance(value, Mapping) and all(holds(head, str) for head in value.values())),
)
OF_BENCHMARK = {"name": TEXT, "task": TEXT, "data": TEXT, "columns": COLUMNS}


def require(config: DictConfig) -> None:
    """ValueError for the first setting that is no value of its kind, has no effect, or does not suit the model.

    Models are looked at as far as their folders tell without loading weights.
    """
    for name, rule in RULES.items():
        _require(name, OmegaConf.select(config, name), rule)
    for name, value in _leaves("plan", config.plan):
        if name not in ("plan.device", "plan.measured"):
            _require(name, value, NUMBER if name.endswith("_gb") else POSITIVE)
    benchmarks = [configure.load("benchmark", name) for name in config.benchmarks] or [config.benchmark]
    for benchmark in benchmarks:
        for name, rule in OF_BENCHMARK.items():
            _require(f"benchmark.{name}", benchmark.get(name), rule)
    judge_of(config.judge)
    if config.judge.base_url is not None and not any(benchmark.get("judged") for benchmark in benchmarks):
        named = ", ".join(benchmark.name for benchmark in benchmarks)
        raise ValueError(f"judge.base_url has no effect: {named} has no open answers to judge; leave it out")
    if config.command in LOADING and not config.dry_run:
        for model in configure.models(config):
            built = configure.build(model)
            built.require_fit()
            _require_prunable(configure.table_rows(config, model)[0], built.checkpoint_config())


def _require_prunable(rows: list[Row], checkpoint: dict[str, Any]) -> None:
    """ValueError for a row whose stages ask for a layer or a part of the tower that the checkpoint says it lacks."""
    from sharpv.pruners.fastvid import FastVID

    depth = checkpoint.get("text_config", {}).get("num_hidden_layers")
    headless = checkpoint.get("vision_config", {}).get("vision_use_head") is False
    for row in rows:
        if headless and isinstance(row.visual, FastVID):
            raise ValueError(f"row {row.name!r} needs the vision tower's pooling head, which this checkpoint lacks")
        if depth is not None and row.memory is not None:
            row.memory.check(depth)


def _require(name: str, value: Any, rule: Rule) -> None:
    if not rule.met(value):
        shown = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
        raise ValueError(f"{name}={'null' if shown is None else repr(shown)} must be {rule.said}")


def _leaves(name: str, value: Any) -> list[tuple[str, Any]]:
    if not isinstance(value, Mapping):
        return [(name, value)]
    return [leaf for key, inner in value.items() for leaf in _leaves(f"{name}.{key}", inner)]

"""Which experiment a report is about, what keeps it from being whole, and which of the paper's columns it fills."""

from collections.abc import Sequence
from pathlib import Path

import yaml

from sharpv.paths import configs_dir, record_path, results_dir
from sharpv.reports.store import Run
from sharpv.typed import table


def record_of(experiment: str) -> Path:
    """The record of an experiment that was run here; ValueError naming those there are."""
    path = record_path(experiment)
    if not path.is_file():
        known = ", ".join(experiments())
        known = f"there are: {known}" if known else "none was run here"
        raise ValueError(
            f"no record of an experiment {experiment!r}, {path}; {known}; `{table('table3')}` makes table3"
        )
    return path


def experiments() -> list[str]:
    """The experiments that were run here and can be reported."""
    folder = results_dir() / "experiments"
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.json"))


def marked(title: str, runs: Sequence[Run]) -> str:
    """A report's title with what it is not: whole, or complete."""
    limits = {run.info["limit"] for run in runs if run.info.get("limit")}
    marks = [f"at most {limit} questions a task" for limit in sorted(limits)]
    marks += ["a part of the experiment"] if any(run.info.get("part") for run in runs) else []
    marks += ["INCOMPLETE"] if any(run.info["status"] != "complete" for run in runs) else []
    return f"{title} ({'; '.join(marks)})" if marks else title


def paper_columns(runs: Sequence[Run]) -> dict[str, str]:
    """The columns that the benchmarks of these runs fill, as their records or configs/benchmark/ say: column ->
    benchmark. ValueError where none is known.
    """
    stored = {name: run for run in runs for name in run.samples["benchmark"].unique()}
    files = sorted((configs_dir() / "benchmark").glob("*.yaml"))
    settings = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in files]
    columns = {column: one["task"] for one in settings if one["task"] in stored for column in one["columns"]}
    columns |= {column: name for name, run in stored.items() for column in run.info.get("columns", {})}
    if not columns:
        raise ValueError(
            f"benchmarks {sorted(stored)} are in no file of configs/benchmark/: add one that names columns"
        )
    return columns

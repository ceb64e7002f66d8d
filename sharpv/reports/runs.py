"""Which stored runs a report is about, and which of the paper's columns their benchmarks fill."""

import json
from collections.abc import Sequence
from pathlib import Path

import yaml

from sharpv.paths import REPOSITORY
from sharpv.reports.store import Run, read_jsonl


def newest_runs(runs: Path) -> list[Path]:
    """The run folders of the complete experiment with more than one row reported last: its newest cell, and the
    other complete cells of the same command, the newest for each model and benchmark.

    ValueError where `runs` holds none.
    """
    infos = {path.parent: json.loads(path.read_text(encoding="utf-8")) for path in sorted(runs.glob("*/run.json"))}
    complete = sorted(
        (folder for folder, info in infos.items() if info.get("status") == "complete"),
        key=lambda folder: infos[folder].get("reported", infos[folder]["created"]),
        reverse=True,
    )
    newest = next((folder for folder in complete if _rows(folder) > 1), None)
    if newest is None:
        raise ValueError(
            f"{runs} holds no complete run with more than one row ({len(infos)} runs, {len(complete)} complete): "
            "run `make table3` first, or name run folders"
        )
    cells: dict[tuple, Path] = {}
    for folder in complete:
        if infos[folder]["command"] == infos[newest]["command"] and _rows(folder) > 1:
            cells.setdefault((infos[folder]["model"]["name"], infos[folder].get("benchmark")), folder)
    return sorted(cells.values())


def paper_columns(runs: Sequence[Run]) -> dict[str, str]:
    """The paper's columns that the benchmarks of these runs fill, as configs/benchmark/ says: column -> benchmark.

    ValueError where none is known.
    """
    stored = {name for run in runs for name in run.samples["benchmark"].unique()}
    settings = [
        yaml.safe_load(path.read_text(encoding="utf-8"))
        for path in sorted((REPOSITORY / "configs/benchmark").glob("*.yaml"))
    ]
    columns = {column: one["task"] for one in settings if one["task"] in stored for column in one["columns"]}
    if not columns:
        raise ValueError(
            f"benchmarks {sorted(stored)} are in no file of configs/benchmark/: add one that names columns"
        )
    return columns


def _rows(folder: Path) -> int:
    return len({line["row"] for line in read_jsonl(folder / "scores.jsonl")})


def described(folder: Path) -> str:
    """A run folder with its time and commit, for those who want to know what a report is made of."""
    info = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    commit = info.get("git", info["versions"].get("git", "unknown"))
    return f"{folder} ({info['created']}, commit {commit})"

"""`python run.py status`: what is finished, failed and left in each run folder, from its files alone."""

import json
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from tabulate import tabulate

from sharpv import paths
from sharpv.reports.store import read_jsonl, read_samples

HEADS = ("run", "model", "benchmark", "status", "rows", "asked", "answered", "failed", "left", "scored", "created")


def status(config: DictConfig, command: str) -> int:
    """Print one line a run folder, then each failed answer's reason once with its count; always exit code 0."""
    folder = paths.results_dir() / "runs"
    runs = sorted(path.parent for path in folder.glob("*/run.json"))
    if not runs:
        print(f"no run in {folder} yet")
        return 0
    found = [of_folder(run) for run in runs]
    print(tabulate([[line[head] for head in HEADS] for line in found], HEADS, disable_numparse=True))
    for line in found:
        for reason, number in line["reasons"].items():
            print(f"\n{line['run']}: {number} x {reason}")
    return 0


def of_folder(folder: Path) -> dict[str, Any]:
    """The counts of one run folder, by `HEADS`, and `reasons`: why answers failed, with how many each.

    Counted are the rows that the latest command asked for; `left` have neither an answer nor an error. "?" where the
    folder is older than run.json's `requested`.
    """
    info = json.loads((folder / "run.json").read_text())
    requested = info.get("requested")
    names = {(name, seed) for name, seed in requested["rows"]} if requested else None
    answers: dict[tuple, dict[str, Any]] = {}
    for row in read_samples(folder):
        if names is None or (row["row"], row["seed"]) in names:
            answers[row["row"], row["seed"], row["task"], row["doc_id"]] = row
    failed = [row for row in answers.values() if row["status"] != "ok"]
    asked = requested["questions"] * len(requested["rows"]) if requested else None
    reasons: dict[str, int] = {}
    for row in failed:
        reasons[row["error"]] = reasons.get(row["error"], 0) + 1
    return {
        "run": folder.name,
        "model": info["model"]["name"],
        "benchmark": info.get("benchmark", "?"),
        "status": info["status"],
        "rows": len(names) if names else len({(row["row"], row["seed"]) for row in answers.values()}),
        "asked": "?" if asked is None else asked,
        "answered": len(answers) - len(failed),
        "failed": len(failed),
        "left": "?" if asked is None else max(0, asked - len(answers)),
        "scored": len(read_jsonl(folder / "scores.jsonl")),
        "created": info["created"],
        "reasons": reasons,
    }

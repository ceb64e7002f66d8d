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

    Counted are the rows that the latest command asked for, with the settings that they had in it (answers of earlier
    versions name none, and are not used again); `left` have neither an answer nor an error.
    """
    info = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    rows = {(name, settings) for name, settings in info["requested"]["rows"]}
    answers: dict[tuple, dict[str, Any]] = {}
    for answer in read_samples(folder):
        row = answer["row"], answer.get("settings")
        if row in rows:
            answers[*row, answer["task"], answer["doc_id"]] = answer
    failed = [answer for answer in answers.values() if answer["status"] != "ok"]
    asked = info["requested"]["questions"] * len(rows)
    reasons: dict[str, int] = {}
    for answer in failed:
        reasons[answer["error"]] = reasons.get(answer["error"], 0) + 1
    return {
        "run": folder.name,
        "model": info["model"]["name"],
        "benchmark": info.get("benchmark", "?"),
        "status": info["status"],
        "rows": len(rows),
        "asked": asked,
        "answered": len(answers) - len(failed),
        "failed": len(failed),
        "left": max(0, asked - len(answers)),
        "scored": len(read_jsonl(folder / "scores.jsonl")),
        "created": info["created"],
        "reasons": reasons,
    }

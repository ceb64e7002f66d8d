"""`python run.py status`: what is finished, failed and left in each run folder, from its files alone."""

import re
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import DictConfig
from tabulate import tabulate

from sharpv import paths, typed
from sharpv.files import read_jsonl, read_object
from sharpv.reports.runs import experiments
from sharpv.reports.store import read_columns, read_samples

FIELDS = ("key", "row", "settings", "task", "doc_id", "status", "error")
HEADS = ("run", "model", "benchmark", "status", "rows", "asked", "answered", "failed", "left", "scored", "created")


def status(config: DictConfig, command: str) -> int:
    """Print one line a run folder, then each failed answer's reason once with its count, and the experiments that
    reports can be made of; exit code 0. ValueError naming a file that a hand has broken."""
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
    if names := experiments():
        print(f"\nexperiments ({typed.page('NAME')}): {', '.join(names)}")
    return 0


def of_folder(folder: Path) -> dict[str, Any]:
    """The counts of one run folder, by `HEADS`, and `reasons`: why answers failed, with how many each.

    Counted are the rows that the latest command asked for, with the settings that they had in it (answers of earlier
    versions name none, and are not used again); `left` have neither an answer nor an error.
    """
    info, path = read_object(folder / "run.json"), folder / "run.json"
    try:
        rows = {(name, settings) for name, settings in info["requested"]["rows"]}
        questions, model = int(info["requested"]["questions"]), info["model"]["name"]
        state, created = str(info["status"]), str(info["created"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} does not say what was asked ({error!r}): delete it and start the run again, answers are kept"
        ) from error
    stored = read_columns(folder, FIELDS)
    if stored is None:
        stored = pd.DataFrame(read_samples(folder, FIELDS), columns=list(FIELDS))
    kinds = stored[["row", "settings"]].drop_duplicates()
    wanted = [pair for pair in kinds.itertuples(index=False) if (pair.row, none_for(pair.settings)) in rows]
    stored = stored.merge(pd.DataFrame(wanted, columns=["row", "settings"]), on=["row", "settings"])
    answers = stored.drop_duplicates(["row", "settings", "task", "doc_id"], keep="last")
    failed, asked = answers[answers["status"] != "ok"], questions * len(rows)
    reasons = {str(reason): int(number) for reason, number in failed["error"].value_counts(sort=False).items()}
    return {
        "run": folder.name,
        "model": model,
        "benchmark": info.get("benchmark", "?"),
        "status": state,
        "rows": len(rows),
        "asked": asked,
        "answered": len(answers) - len(failed),
        "failed": len(failed),
        "left": max(0, asked - len(answers)),
        "scored": scored(folder / "scores.jsonl"),
        "created": created,
        "reasons": reasons,
    }


def none_for(value: Any) -> Any:
    """None for what a frame has where there is nothing."""
    return None if pd.isna(value) else value


def scored(path: Path) -> int:
    """How many answers have a score, by the keys that lines begin with; parsed where one begins otherwise."""
    content = path.read_bytes() if path.is_file() else b""
    keys = re.findall(rb'^\{"key": "([^"\\]*)".*\}$', content, re.MULTILINE)
    if len(keys) == content.count(b"\n") and content.endswith(b"\n"):
        return len(set(keys))
    return len({line.get("key") for line in read_jsonl(path)})

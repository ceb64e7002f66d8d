"""What the rows of a table were set to, and what scored their open answers, as run.json has it."""

import re
from collections.abc import Sequence

import pandas as pd

from sharpv.reports.document import Line, Section
from sharpv.reports.markup import EMPTY
from sharpv.reports.store import Run

HEADER = ("Method", "visual stage", "memory stage")


def settings_section(runs: Sequence[Run], lines: pd.DataFrame) -> Section | None:
    """Each row's two stages with the values of all their fields; None where the runs are too old to say."""
    stages: dict[str, dict[str, str | None]] = {}
    for run in runs:
        stages |= run.info.get("rows", {})
    told = [line for _, line in lines.iterrows() if line["row"] in stages]
    written = [Line([line["method"], *_values(stages[line["row"]], int(line["seeds"]))]) for line in told]
    depths = sorted({int(depth) for run in runs for depth in run.samples["depth"].dropna().unique()})
    sentence = (
        "Values used, defaults included. Layer numbers under scale_layers=True are of a 28-layer model, scaled to the "
        f"{' or '.join(map(str, depths))} layers of this one. Where the paper leaves SharpV open to several readings, "
        "these are the ones taken; `make readings` puts the others beside them."
    )
    return Section("Settings", sentence, HEADER, written, numbers=False) if told else None


def _values(stages: dict[str, str | None], seeds: int) -> list[str]:
    """Of both stages; a row of several seeds has them all, of which the record names one."""
    told = [stages[stage] or EMPTY for stage in ("visual", "memory")]
    return [re.sub(r"\bseed=\d+", f"seed=each of {seeds}", text) for text in told] if seeds > 1 else told


def open_answers(runs: Sequence[Run]) -> list[str]:
    """A sentence for each benchmark whose answers are open: who or what scored them."""
    scored = {run.info["benchmark"]: run.info["scored_by"] for run in runs if run.info.get("scored_by")}
    return [f"{benchmark}: answers scored by {what}." for benchmark, what in scored.items()]


def mixed_scorers(runs: Sequence[Run]) -> list[str]:
    """A warning for each benchmark whose open answers were scored in different ways in different runs."""
    found: dict[str, set[str]] = {}
    for run in runs:
        if run.info.get("scored_by"):
            found.setdefault(run.info["benchmark"], set()).add(run.info["scored_by"])
    return [
        f"MIXED scores of {benchmark}: by {' and '.join(sorted(ways))}; do not compare them."
        for benchmark, ways in found.items()
        if len(ways) > 1
    ]

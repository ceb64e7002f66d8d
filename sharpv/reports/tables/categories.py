"""Accuracies by sub-task of any run: what the benchmarks' averages hide."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from sharpv.files import write_whole
from sharpv.reports.comparison import by_model, interval, model_answers, model_name, per_question, sort_rows
from sharpv.reports.document import Document, Line, Section
from sharpv.reports.markup import csv_text, ends, fixed
from sharpv.reports.runs import marked
from sharpv.reports.store import Run, load_runs
from sharpv.reports.tables.table3_notes import unfinished

NOTES = (
    "Accuracy in percent with 95% intervals (bootstrap of whole videos); seeds are averaged per question first.",
    "Failed answers count as wrong. No correction is made for looking at many sub-tasks.",
)


def write_categories(run_dirs: Sequence[Path | Run], output: Path, name: str = "categories") -> pd.DataFrame:
    """Write <name>.md, <name>.csv and <name>.tex into `output`; return one line a model, row and sub-task: accuracy and
    its interval in percent, and the number of questions."""
    runs = load_runs(run_dirs)
    table = pd.concat([by_category(group) for group in by_model(runs).values()], ignore_index=True)
    sections = [_section(str(model), part) for model, part in table.groupby("model", sort=False)]
    Document(marked("Accuracy by sub-task", runs), sections, unfinished(runs), NOTES).write(output / name)
    write_whole(output / f"{name}.csv", csv_text(table))
    return table


def by_category(runs: list[Run]) -> pd.DataFrame:
    """Of one model's runs: accuracy and its interval in percent, and the number of questions, a line a row and
    sub-task."""
    benchmarks = {name for run in runs for name in run.samples["benchmark"].unique()}
    answers = model_answers(runs, benchmarks, benchmarks)
    rows = answers.drop_duplicates("row")[["row", "method", "kind"]].reset_index(drop=True)
    parts = {row: per_question(part) for row, part in answers.groupby("row", sort=False)}
    lines = []
    for _, row in sort_rows(rows, []).iterrows():
        for (benchmark, task), part in parts[row["row"]].groupby(["benchmark", "task"], sort=False):
            found = interval(100 * part["score"], part)
            told = {"model": model_name(runs[0]), **row, "benchmark": benchmark, "task": task, "questions": len(part)}
            lines.append(told | {"accuracy": found.estimate, "low": found.low, "high": found.high})
    return pd.DataFrame(lines)


def _section(model: str, part: pd.DataFrame) -> Section:
    methods = part.drop_duplicates("row")
    lines = []
    for (benchmark, task), here in part.groupby(["benchmark", "task"], sort=False):
        of_row = here.set_index("row")
        cells = [
            f"{fixed(of_row.loc[row, 'accuracy'])} {ends(of_row.loc[row, 'low'], of_row.loc[row, 'high'])}".strip()
            if row in of_row.index
            else "\u2013"
            for row in methods["row"]
        ]
        name = str(task).removeprefix(f"{benchmark}_").replace("_", " ")
        lines.append(Line([str(benchmark), name, f"{here['questions'].max()}", *cells]))
    return Section(model, "", ["Benchmark", "Sub-task", "questions", *methods["method"]], lines)

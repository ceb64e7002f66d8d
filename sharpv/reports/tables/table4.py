"""Table 4 from stored runs: Visual SharpV against random choices, per sub-task of MVBench and length of VideoMME."""

from collections.abc import Mapping, Sequence
from math import nan
from pathlib import Path

import pandas as pd

from sharpv.files import write_whole
from sharpv.reports.comparison import (
    QUESTION,
    by_model,
    cell,
    counts,
    dense_answers,
    interval,
    model_answers,
    model_name,
    numbers,
    paired,
    per_question,
    sort_rows,
)
from sharpv.reports.markup import csv_text
from sharpv.reports.statistics import holm
from sharpv.reports.store import Run, load_runs
from sharpv.reports.tables import table4_text
from sharpv.reports.tables.paper_names import DURATIONS, SUB_TASKS, lines_of_model, published_beside

AVERAGES = {"mvbench_acc": "avg_mvbench", "videomme_wo": "avg_videomme"}
"""The paper's columns of Table 3 and of Table 4 for the two benchmarks that this table is about."""
VISUAL = "Visual SharpV"
TESTS = ("diff", "diff_low", "diff_high", "p_sign_flip", "p_mcnemar", "smallest_detectable")


def write_table4(
    run_dirs: Sequence[Path | Run], output: Path, paper_csv: Path, benchmarks: Mapping[str, str], name: str = "table4"
) -> pd.DataFrame:
    """Write <name>.md, <name>.csv and <name>.tex into `output`; return the table, one line a model and row.

    `benchmarks` maps the paper's columns mvbench_acc and videomme_wo to the runs' benchmarks; others are left out.
    """
    runs, paper = load_runs(run_dirs), pd.read_csv(paper_csv)
    table = build_table4(runs, paper, benchmarks)
    beside = published_beside(paper, [run.info["model"] for run in runs], wanted_of(benchmarks))
    table4_text.document(table, paper, beside, runs, benchmarks).write(output / name)
    write_whole(output / f"{name}.csv", csv_text(table))
    return table


def build_table4(runs: list[Run], paper: pd.DataFrame, benchmarks: Mapping[str, str]) -> pd.DataFrame:
    """The paper's columns, then sub-tasks that it does not have, per cell <column>_low and _high (95%), and per row

    - to_dense_*: the difference of the average of both benchmarks to dense, in points, with interval and tests;
    - to_visual_*: the same to Visual SharpV, negative where the row is worse than it;
    - *_holm: the sign-flip tests corrected over all rows of the table;
    - paper_avg_*, gap_*: the paper's averages and ours minus them, NaN where it has none.

    Accuracies in percent; an empty cell was not measured. ValueError where no run has one of the two benchmarks.
    """
    wanted = wanted_of(benchmarks)
    if not wanted:
        raise ValueError(f"benchmarks {dict(benchmarks)} must map one of {list(AVERAGES)} to a benchmark of the runs")
    tables = [_model_table(group, paper, wanted) for group in by_model(runs).values()]
    table = pd.concat(tables, ignore_index=True)
    for other in ("dense", "visual"):
        table[f"to_{other}_holm"] = holm(table[f"to_{other}_p_sign_flip"].to_numpy(dtype=float))
    printed = list(paper.columns)
    return table[[*printed, *(column for column in table if column not in printed)]]


def wanted_of(benchmarks: Mapping[str, str]) -> dict[str, str]:
    """Those that this table is about."""
    return {column: benchmarks[column] for column in AVERAGES if column in benchmarks}


def _model_table(runs: list[Run], paper: pd.DataFrame, benchmarks: Mapping[str, str]) -> pd.DataFrame:
    by_sub_task = {benchmark for column, benchmark in benchmarks.items() if column == "mvbench_acc"}
    answers = model_answers(runs, set(benchmarks.values()), by_sub_task)
    dense, expected = dense_answers(answers), len(answers.drop_duplicates(QUESTION))
    visual = answers[answers["method"] == VISUAL]
    name, lines = model_name(runs[0]), []
    beside = published_beside(paper, [run.info["model"] for run in runs], benchmarks)
    for _, part in answers.groupby("row", sort=False):
        questions = per_question(part)
        line = {"model": name} | {key: part[key].iloc[0] for key in ("method", "row", "kind")}
        line |= _cells(questions, benchmarks) | counts(part, questions, expected)
        line["vr_pct"] = 100 * numbers(part[~part["failed"]], "vr").mean()
        line |= _tests("dense", part, questions, dense) | _tests("visual", part, questions, visual)
        lines.append(line | _published(line, beside))
    own = [column for line in lines for column in line]
    columns = dict.fromkeys([*paper.columns, *own, *(f"to_{o}_{t}" for o in ("dense", "visual") for t in TESTS)])
    return sort_rows(pd.DataFrame(lines).reindex(columns=list(columns)), list(dict.fromkeys(paper["method"])))


def _cells(questions: pd.DataFrame, benchmarks: Mapping[str, str]) -> dict[str, float]:
    found: dict[str, float] = {}
    for column, benchmark in benchmarks.items():
        here = questions[questions["benchmark"] == benchmark]
        if here.empty:
            continue
        tasks = sorted(set(here["task"]))
        for task in tasks if len(tasks) > 1 else []:
            part = here[here["task"] == task]
            found |= cell(sub_task_column(task, benchmark), interval(100 * part["score"], part.assign(stratum=task)))
        found |= cell(AVERAGES[column], interval(100 * here["score"], here))
    return found


def sub_task_column(task: str, benchmark: str) -> str:
    """The paper's column for a task of a benchmark, or the end of the task's name where the paper has none."""
    ending = task.removeprefix(f"{benchmark}_")
    return SUB_TASKS.get(ending, DURATIONS.get(ending, ending))


def _tests(other: str, part: pd.DataFrame, questions: pd.DataFrame, reference: pd.DataFrame) -> dict[str, float]:
    """Paired comparison with another row; empty for the row itself, and where the other one was not run."""
    if reference.empty or part["row"].iloc[0] == reference["row"].iloc[0]:
        return {}
    single = part["seed"].nunique() == 1 and reference["seed"].nunique() == 1
    found = paired(questions, per_question(reference), single)
    return {f"to_{other}_{name}": value for name, value in found.items()}


def _published(line: Mapping, paper: pd.DataFrame) -> dict[str, float]:
    lines = lines_of_model(paper, line["model"])
    match = lines[lines["method"] == line["method"]]
    found: dict[str, float] = {}
    for average in AVERAGES.values():
        printed = match[average].iloc[0] if len(match) else nan
        found |= {f"paper_{average}": printed, f"gap_{average}": line.get(average, nan) - printed}
    return found

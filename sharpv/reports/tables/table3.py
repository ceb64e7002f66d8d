"""Table 3 from stored runs: accuracy, budget and cost of every row, with statistics, beside the paper's numbers."""

from collections.abc import Mapping, Sequence
from math import nan
from pathlib import Path

import pandas as pd

from sharpv.files import write_whole
from sharpv.reports.comparison import (
    QUESTION,
    by_model,
    cell,
    costs,
    counts,
    dense_answers,
    interval,
    model_answers,
    model_name,
    paired,
    per_question,
    sort_rows,
)
from sharpv.reports.markup import EMPTY, csv_text
from sharpv.reports.runs import marked
from sharpv.reports.statistics import holm
from sharpv.reports.store import Run, load_runs
from sharpv.reports.tables import table3_notes, table3_text
from sharpv.reports.tables.paper_names import published_beside
from sharpv.reports.tables.reference import against_reference, reference_sections
from sharpv.reports.tables.settings import settings_section
from sharpv.reports.tables.table3_columns import (
    ACCURACIES,
    BENCHMARK_COLUMNS,
    OURS,
    PAPER,
    SCORE,
    by_sub_task,
    headings,
    own_columns,
    printed_headings,
)


def write_table3(
    run_dirs: Sequence[Path | Run],
    output: Path,
    paper_csv: Path,
    benchmarks: Mapping[str, str],
    name: str = "table3",
    title: str = "Table 3: training-free visual token pruning",
    reference: str | None = None,
) -> pd.DataFrame:
    """Write <name>.md, <name>.csv and <name>.tex into the folder `output`; return the table, one line a row.

    `benchmarks` maps columns to the benchmarks of the runs: the paper's (`BENCHMARK_COLUMNS`), or others', which are
    then printed in the order asked. Several runs of one model make one table as long as no answer is in two of them.
    reference: a row that all others are compared with, besides dense.
    """
    runs, paper = load_runs(run_dirs), pd.read_csv(paper_csv)
    table = build_table3(runs, paper, benchmarks)
    title = marked(title, runs)
    against = against_reference(runs, table, benchmarks, reference) if reference else None
    shown = table if against is None else table.merge(against, on=["model", "row"], how="left")
    write_whole(output / f"{name}.csv", csv_text(shown))
    beside = published_beside(paper, [run.info["model"] for run in runs], benchmarks)
    warnings, notes = table3_notes.warnings(table, runs), table3_notes.notes(table, beside, runs, benchmarks)
    # Beside the paper's rows all of its columns stand, for these have numbers there.
    heads = printed_headings(runs, benchmarks) if beside.empty else headings(runs, benchmarks)
    settings = {
        str(model): section
        for model, lines in table.groupby("model", sort=False)
        if (section := settings_section([run for run in runs if model_name(run) == model], lines))
    }
    compared = {} if against is None else reference_sections(shown, str(reference))
    text = table3_text.markdown(table, beside, warnings, notes, title, settings, compared, heads)
    write_whole(output / f"{name}.md", text)
    under = [note for note in notes if note != table3_notes.TESTS]
    for model, section in settings.items():
        for method, *stages in (line.cells for line in section.lines):
            under.append(f"{model}, {method}: {', '.join(stage for stage in stages if stage != EMPTY) or 'unpruned'}")
    write_whole(output / f"{name}.tex", table3_text.latex(table, beside, warnings, under, title, heads, name))
    return table


def build_table3(runs: list[Run], paper: pd.DataFrame, benchmarks: Mapping[str, str]) -> pd.DataFrame:
    """The table with the columns `PAPER` then `OURS`: accuracies, ratios and differences in percent (points), GB of 1e9
    bytes, seconds or milliseconds as named, 1e12 floating-point operations. An empty cell was not measured.

    High is good for accuracies, speed-ups and diff_to_dense (ours - dense); ratios are kept shares. Models in the order
    of the runs; their rows dense, methods as in the paper, budget-matched ones, controls. Columns of other benchmarks
    stand behind the paper's. ValueError where no column holds accuracies, or no run knows one that is not the paper's.
    """
    named = {column for run in runs for column in run.info.get("columns", {})}
    if not set(benchmarks) - {SCORE} or set(own_columns(benchmarks)) - named:
        raise ValueError(
            f"benchmarks {dict(benchmarks)} must map some of {BENCHMARK_COLUMNS}, or a column that a benchmark's own "
            "configuration names, to the runs' benchmarks"
        )
    models = by_model(runs)
    table = pd.concat([_model_table(group, paper, benchmarks) for group in models.values()], ignore_index=True)
    table["p_holm"] = holm(table["p_sign_flip"].to_numpy(dtype=float))
    return table


def _model_table(runs: list[Run], paper: pd.DataFrame, benchmarks: Mapping[str, str]) -> pd.DataFrame:
    answers = model_answers(runs, set(benchmarks.values()), by_sub_task(runs, benchmarks))
    dense, expected = dense_answers(answers), len(answers.drop_duplicates(QUESTION))
    name = model_name(runs[0])
    lines = [
        {"model": name, **_line(part, dense, benchmarks, expected)} for _, part in answers.groupby("row", sort=False)
    ]
    own = own_columns(benchmarks)
    ends = [f"{column}_{end}" for column in own for end in ("low", "high")]
    table = pd.DataFrame(lines).reindex(columns=[*PAPER, *own, *OURS, *ends])
    beside = published_beside(paper, [run.info["model"] for run in runs], benchmarks)
    published = beside.set_index(["model", "method"])["avg_acc"]
    table["paper_avg_acc"] = [published.get((name, method), nan) for method in table["method"]]
    complete = table[list(ACCURACIES)].notna().all(axis=1) & (not own)
    table["gap_to_paper"] = (table["avg_acc"] - table["paper_avg_acc"]).where(complete)
    return sort_rows(table, list(dict.fromkeys(paper["method"])))


def _line(part: pd.DataFrame, dense: pd.DataFrame, benchmarks: Mapping[str, str], expected: int) -> dict:
    questions = per_question(part)
    line = {name: part[name].iloc[0] for name in ("row", "method", "kind")}
    for column, benchmark in benchmarks.items():
        here = questions[questions["benchmark"] == benchmark]
        values = here["judge_score"] if column == SCORE else 100 * here["score"]
        if values.notna().any():
            line |= cell(column, interval(values, here))
        if column == SCORE and here["offline_score"].notna().any():
            line["actnetqa_offline"] = 100 * here["offline_score"].mean()
    line |= cell("avg_acc", interval(100 * questions["score"], questions))
    line |= costs(part, dense) | counts(part, questions, expected)
    if line["kind"] == "dense":
        return line
    against = paired(questions, per_question(dense), line["seeds"] == 1)
    return line | {"diff_to_dense" if name == "diff" else name: value for name, value in against.items()}

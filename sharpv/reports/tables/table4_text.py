"""How Table 4 looks: a model's sub-tasks down, its rows across, each with the paper's number beside ours."""

from collections.abc import Mapping
from dataclasses import replace

import pandas as pd

from sharpv.reports.comparison import model_name
from sharpv.reports.document import Document, Line, Section
from sharpv.reports.markup import EMPTY, ends, fixed, p_value
from sharpv.reports.runs import marked
from sharpv.reports.store import Run
from sharpv.reports.tables.paper_names import DURATIONS, SUB_TASKS, lines_of_model, same_model
from sharpv.reports.tables.settings import settings_section
from sharpv.reports.tables.table3_notes import listed, warnings

AVERAGE_NAMES = {"avg_mvbench": "MVBench, mean of sub-tasks", "avg_videomme": "VideoMME"}
EVIDENCE = (
    *("Method", "VR %", "questions", "videos", "seeds", "unanswered", "failed", "missing"),
    *("to dense", "p", "p (Holm)", "p McNemar", "detectable"),
    *("to Visual SharpV", "p", "p (Holm)"),
)


def document(
    table: pd.DataFrame, paper: pd.DataFrame, beside: pd.DataFrame, runs: list[Run], benchmarks: Mapping[str, str]
) -> Document:
    """Two tables a model, accuracies and what stands behind them, with warnings and notes. beside: the lines of `paper`
    that stand beside these runs."""
    sections = []
    for model, part in table.groupby("model", sort=False):
        printed = lines_of_model(beside, str(model)).set_index("method")
        printed = printed if len(printed) else printed.iloc[:, :0]
        sections += [_accuracies(str(model), part, printed), _evidence(str(model), part)]
        settings = settings_section([run for run in runs if model_name(run) == model], part)
        sections += [replace(settings, heading=f"{model}: settings")] if settings else []
    title = marked("Table 4: which tokens Visual SharpV keeps, against random ones", runs)
    return Document(title, sections, warnings(table, runs), _notes(table, paper, beside, runs, benchmarks))


def _accuracies(model: str, part: pd.DataFrame, printed: pd.DataFrame) -> Section:
    lines = []
    for column in _columns(part, printed):
        name = AVERAGE_NAMES.get(column, column.replace("videomme_", "VideoMME ").replace("_", " "))
        if column in part:
            lines.append(Line([name, *(_accuracy(line, column) for _, line in part.iterrows())]))
        if column in printed:
            numbers = [
                f"{printed[column][method]:g}" if method in printed.index else EMPTY for method in part["method"]
            ]
            lines.append(Line(["(paper)", *numbers], "paper"))
    sentence = "Accuracy in percent with 95% intervals; under each line the paper's."
    return Section(model, sentence, ["Sub-task", *part["method"]], lines)


def _columns(part: pd.DataFrame, printed: pd.DataFrame) -> list[str]:
    """The columns that these rows or the paper fill, sub-tasks before averages."""
    names = [str(name) for name in part]
    measured = [name.removesuffix("_low") for name in names if name.endswith("_low") and not name.startswith("to_")]
    known = [*SUB_TASKS.values(), *DURATIONS.values()]
    filled = [column for column in measured if part[column].notna().any()]
    found = dict.fromkeys([*(c for c in known if c in filled or c in printed), *filled])
    return [*(column for column in found if column not in AVERAGE_NAMES), *(c for c in AVERAGE_NAMES if c in found)]


def _accuracy(line: pd.Series, column: str) -> str:
    if f"{column}_low" not in line:
        return EMPTY
    return f"{fixed(line[column])} {ends(line[f'{column}_low'], line[f'{column}_high'])}".strip()


def _evidence(model: str, part: pd.DataFrame) -> Section:
    lines = []
    for _, line in part.iterrows():
        counted = [
            f"{line[name]:g}" for name in ("n_questions", "n_videos", "seeds", "unanswered", "n_errors", "n_missing")
        ]
        cells = [line["method"], fixed(line["vr_pct"]), *counted, _difference(line, "dense")]
        cells += [p_value(line[f"to_dense_{name}"]) for name in ("p_sign_flip", "holm", "p_mcnemar")]
        cells += [fixed(line["to_dense_smallest_detectable"]), _difference(line, "visual")]
        lines.append(Line([*cells, *(p_value(line[f"to_visual_{name}"]) for name in ("p_sign_flip", "holm"))]))
    return Section(f"{model}: evidence", "Differences of the average of the benchmarks, in points.", EVIDENCE, lines)


def _difference(line: pd.Series, other: str) -> str:
    value, low, high = (line[f"to_{other}_{name}"] for name in ("diff", "diff_low", "diff_high"))
    return f"{fixed(value, sign=True)} {ends(low, high, sign=True)}".strip()


def _notes(
    table: pd.DataFrame, paper: pd.DataFrame, beside: pd.DataFrame, runs: list[Run], benchmarks: Mapping[str, str]
) -> list[str]:
    notes = [
        (
            "V-Random (dagger) chooses at random with Visual SharpV's counts per frame, V-Random (star) over the whole "
            "video with its total; their seeds are averaged per question. No row has a memory stage."
        ),
        (
            "Intervals: 95%, bootstrap of whole videos within each sub-task. p: two-sided sign flip by video; p "
            "(Holm): corrected over all rows of this table, dense and Visual SharpV apart; McNemar: exact, over right "
            "and wrong answers. Detectable: true difference found with 80% power. To Visual SharpV: negative is worse."
        ),
    ]
    for average in (name for name in AVERAGE_NAMES if table[name].notna().any()):
        filled = [column for column in _columns(table, paper.iloc[:0, :0]) if column not in AVERAGE_NAMES]
        if average == "avg_mvbench":
            count = len([column for column in filled if column not in DURATIONS.values()])
            notes.append(f"MVBench is the mean over the {count} sub-tasks that the runs hold; the paper's over 20.")
        elif not set(filled) & set(DURATIONS.values()):
            notes.append(
                f"{benchmarks['videomme_wo']} is one task in these runs, so there is no split by video length."
            )
    names = dict.fromkeys(table["model"])
    absent = [name for name in dict.fromkeys(paper["model"]) if not any(same_model(name, own) for own in names)]
    if absent:
        notes.append(f"In the paper's table, not in these runs: {', '.join(absent)}.")
    for name in names:
        if lines_of_model(beside, name).empty and not lines_of_model(paper, name).empty:
            notes.append(f"{name}: these are not the paper's benchmarks, so no row of the paper stands beside it.")
        elif lines_of_model(beside, name).empty:
            notes.append(f"{name} is none of the paper's models: no row of the paper stands beside it.")
        if table.loc[table["model"] == name, "to_visual_diff"].isna().all():
            notes.append(f"{name}: no row named Visual SharpV was run, so nothing is compared with it.")
    if any(same_model(name, "LLaVA-OV 7B") for name in beside["model"]):
        notes.append(
            "The paper's V-Random (dagger) row of LLaVA-OV 7B repeats five numbers of another row, and some of its "
            "averages are not those of its cells: docs/paper_audit.md. Do not tune towards them."
        )
    stated = {
        f"{model_name(run)}, {what}: {listed(run.info[what])}." for run in runs for what in ("versions", "hardware")
    }
    return [*notes, *sorted(stated)]

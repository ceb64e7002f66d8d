"""All figures of stored runs; one that the runs hold no data for is named with the reason."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from sharpv.reports.comparison import by_model, model_answers, model_name
from sharpv.reports.figures import ablation, budget, cache_map, efficiency, field, frames, similarity, strips, style
from sharpv.reports.runs import paper_columns
from sharpv.reports.store import Run, load_runs
from sharpv.reports.tables.categories import by_category
from sharpv.reports.tables.field import build_field
from sharpv.reports.tables.frames import build_frames
from sharpv.reports.tables.paper_names import published_beside
from sharpv.reports.tables.table3 import build_table3


def write_figures(
    folders: Sequence[Path | Run],
    output: Path,
    paper_csv: Path,
    videos: Path,
    question: tuple[str, int] | None = None,
    rows: Sequence[str] = (),
    highlight: Sequence[str] = (style.OURS,),
) -> tuple[list[Path], list[str]]:
    """Draw every figure that these runs hold data for, as SVG and PNG; the files, and why each other one was left out.

    One set of figures a model; with several models their names end in the model's. Film strips: one a benchmark, or the
    one of `question`; rows: what they show. highlight: parts of the names of the methods that stand out among budgets.
    """
    runs = load_runs(folders)
    columns, paper = paper_columns(runs), pd.read_csv(paper_csv)
    if any(run.info["model"]["name"].partition("@")[1] for run in runs):
        return _frames(runs, output, paper, columns)
    models = by_model(runs)
    beside = published_beside(paper, [run.info["model"] for run in runs], columns)
    table = build_table3(runs, paper, columns)
    written, left_out = list[Path](), list[str]()
    for name, group in models.items():
        answers = model_answers(group, set(columns.values()), ())
        answers["video"] = answers["video"].str.split("/", n=1).str[1]
        lines = table[table["model"] == model_name(group[0])].reset_index(drop=True)
        drawings = _drawings(answers, lines, beside, videos, question, rows)
        budgets = {row: share for run in group for row, share in run.info.get("budgets", {}).items() if share}
        if budgets:
            # Among the many rows of a field table no single point of the other pictures is legible.
            drawings = {figure: draw for figure, draw in drawings.items() if figure.startswith("film_strip")}
            drawings["field"] = partial(_field, group, paper, columns, highlight)
        for share in sorted(set(budgets.values()), reverse=True) or [None]:
            shown = [row for row in lines["row"] if share is None or budgets.get(row, share) == share]
            drawings["loss" if share is None else f"loss_{100 * share:g}"] = partial(_loss, group, shown)
        ending = "" if len(models) == 1 else f"_{name}"
        for figure_name, draw in drawings.items():
            _save(draw, output / f"{figure_name}{ending}", written, left_out)
    return written, left_out


def _save(draw: Callable[[], Figure], stem: Path, written: list[Path], left_out: list[str]) -> None:
    try:
        with style.paper_style():
            written += style.save(draw(), stem)
    except ValueError as error:
        left_out.append(f"{stem.name}: {error}")


def _frames(
    runs: list[Run], output: Path, paper: pd.DataFrame, columns: Mapping[str, str]
) -> tuple[list[Path], list[str]]:
    """The one figure of runs at several numbers of frames."""
    written, left_out = list[Path](), list[str]()
    table = build_frames(runs, paper, columns)
    for model, lines in table.groupby("model", sort=False):
        ending = "" if table["model"].nunique() == 1 else f"_{model}"
        draw = partial(frames.frames_figure, lines.reset_index(drop=True))
        _save(draw, output / f"frames{ending}", written, left_out)
    return written, left_out


def _field(group: list[Run], paper: pd.DataFrame, columns: Mapping[str, str], highlight: Sequence[str]) -> Figure:
    return field.field_figure(build_field(group, paper, columns), highlight)


def _loss(group: list[Run], rows: Sequence[str]) -> Figure:
    categories = by_category(group)
    return field.loss_figure(categories[categories["row"].isin(rows)])


def _drawings(
    answers: pd.DataFrame,
    table: pd.DataFrame,
    paper: pd.DataFrame,
    videos: Path,
    question: tuple[str, int] | None,
    rows: Sequence[str],
) -> dict[str, Callable[[], Figure]]:
    def strip(asked: pd.DataFrame) -> Figure:
        chosen = question or strips.choose_question(asked)
        return strips.stored_strip(asked, videos, list(table["row"]), chosen, rows)

    parts = {str(name): part for name, part in answers.groupby("benchmark")}
    alone = question is not None or len(parts) == 1
    film_strips = {"film_strip": answers} if alone else {f"film_strip_{name}": part for name, part in parts.items()}
    return {name: partial(strip, part) for name, part in film_strips.items()} | {
        "similarity": lambda: similarity.similarity_figure(answers, table["model"].iloc[0]),
        "efficiency": lambda: efficiency.efficiency_figure(answers, table, paper),
        "budget": lambda: budget.budget_figure(_without_sweeps(table)),
        "cache": lambda: cache_map.cache_figure(answers, table),
        "ablation": lambda: ablation.ablation_figure(table),
    }


def _without_sweeps(table: pd.DataFrame) -> pd.DataFrame:
    """The rows without those of a sweep over M, w or K: the ablation shows them, and among them no point is legible."""
    return table[~table["row"].isin(ablation.ablation_points(table)["row"])]

"""Table 2 from stored runs: what the models are, beside the paper's specification, and what they cost unpruned."""

from collections.abc import Sequence
from math import nan
from pathlib import Path

import numpy as np
import pandas as pd

from sharpv.files import write_whole
from sharpv.reports.comparison import by_model, model_name, numbers
from sharpv.reports.document import Document, Line, Section
from sharpv.reports.markup import EMPTY, csv_text, significant
from sharpv.reports.runs import marked
from sharpv.reports.store import Run, load_runs
from sharpv.reports.tables.paper_names import lines_of_model, published_beside, same_model
from sharpv.reports.tables.table3_notes import listed, unfinished

SPECIFICATION = ("dimension", "layers", "tokens_per_frame", "frames")
COSTS = ("visual_tokens", "ttft_s", "tpot_ms", "memory_gb", "tflops")
HEADS = (
    "Model",
    "Dimension",
    "Layers",
    "Tokens/frame",
    "Frames",
    "Visual tokens",
    "TTFT s",
    "TPOT ms",
    "Memory GB",
    "TFLOPs",
)


def write_table2(run_dirs: Sequence[Path | Run], output: Path, paper_csv: Path, name: str = "table2") -> pd.DataFrame:
    """Write <name>.md, <name>.csv and <name>.tex into `output`; return the table, one line a model."""
    runs, paper = load_runs(run_dirs), pd.read_csv(paper_csv)
    table = build_table2(runs, paper)
    document = _document(table, paper, runs)
    document.write(output / name)
    write_whole(output / f"{name}.csv", csv_text(table))
    return table


def build_table2(runs: list[Run], paper: pd.DataFrame) -> pd.DataFrame:
    """One line a model: its specification as its dense answers show it, `paper_*` beside it (NaN where the paper has
    another model), and medians of what a dense answer costs (memory: the largest peak).

    ValueError for a model without a dense answer.
    """
    beside = published_beside(paper, [run.info["model"] for run in runs])
    return pd.DataFrame([_line(group, beside) for group in by_model(runs).values()])


def _line(runs: list[Run], paper: pd.DataFrame) -> dict:
    name = model_name(runs[0])
    samples = pd.concat([run.samples for run in runs], ignore_index=True)
    dense = samples[(samples["kind"] == "dense") & (samples["status"] == "ok")]
    if dense.empty:
        raise ValueError(f"{name} has no dense answer in {[str(run.folder) for run in runs]}: run the row dense")
    first = dense.iloc[0]
    layers = len(first["layers.visual_rows"])
    own = {
        "dimension": width_of(dense, layers),
        "layers": layers,
        "tokens_per_frame": int(np.prod(first["grid"])),
        "frames": int(first["frames"]),
        "visual_tokens": int(first["visual_dense"]),
        "ttft_s": numbers(dense, "ttft_s").median(),
        "tpot_ms": 1e3 * numbers(dense, "tpot_s").median(),
        "memory_gb": numbers(dense, "memory.peak_bytes").max() / 1e9,
        "tflops": numbers(dense, "flops.eq5_prefill").median() / 1e12,
    }
    match = lines_of_model(paper, name)
    printed = {f"paper_{column}": match[column].iloc[0] if len(match) else nan for column in SPECIFICATION}
    return {"model": name} | own | printed | {"n_answers": len(dense)}


def width_of(dense: pd.DataFrame, layers: int) -> float:
    """The language model's width, which the store does not name, from the operations that it counted: Eq. 5 is
    layers * n * ((4d^2 + 2dm) + 2d * n) for n prompt rows, so that its slope over n gives d.

    NaN where all prompts have the same length, or where the counts do not follow that formula.
    """
    rows_N = numbers(dense, "prompt_tokens").to_numpy() + numbers(dense, "visual_dense").to_numpy()
    each_N = numbers(dense, "flops.eq5_prefill").to_numpy() / (layers * rows_N)
    if len(np.unique(rows_N)) < 2:
        return nan
    slope, start = np.polyfit(rows_N, each_N, 1)
    follows = np.allclose(slope * rows_N + start, each_N, rtol=1e-6)
    return float(round(slope / 2)) if follows else nan


def _document(table: pd.DataFrame, paper: pd.DataFrame, runs: list[Run]) -> Document:
    lines = []
    for _, line in table.iterrows():
        own = [_whole(line[column]) for column in (*SPECIFICATION, "visual_tokens")]
        lines.append(Line([line["model"], *own, *(significant(line[column]) for column in COSTS[1:])]))
        if not np.isnan(line["paper_layers"]):
            printed = [_whole(line[f"paper_{column}"]) for column in SPECIFICATION]
            lines.append(Line(["(paper)", *printed, *[EMPTY] * len(COSTS)], "paper"))
    section = Section("", "What each model is, and what a dense answer costs.", HEADS, lines)
    return Document(marked("Table 2: the models", runs), [section], unfinished(runs), _notes(table, paper, runs))


def _whole(value: float) -> str:
    return EMPTY if np.isnan(value) else f"{value:.0f}"


def _notes(table: pd.DataFrame, paper: pd.DataFrame, runs: list[Run]) -> list[str]:
    notes = [
        "Layers, tokens per frame and frames are counted in the stored dense answers; the dimension follows from their "
        "operations by 4nd^2 + 2n^2d + 2ndm.",
        "TTFT, TPOT, TFLOPs (language model's prefill): medians over dense answers; memory: the largest peak, weights "
        "included. The paper's Table 2 has no such columns; its costs are in Table 3.",
    ]
    for _, line in table.iterrows():
        if np.isnan(line["dimension"]):
            notes.append(
                f"{line['model']}: no dimension, because its dense prompts have one length or another formula."
            )
        if np.isnan(line["paper_layers"]):
            notes.append(f"{line['model']} is none of the paper's models.")
        for column in SPECIFICATION:
            printed = line[f"paper_{column}"]
            if not np.isnan(printed) and not np.isnan(line[column]) and printed != line[column]:
                notes.append(f"{line['model']}: {column} is {line[column]:g}, the paper prints {printed:g}.")
    absent = [name for name in paper["model"] if not any(same_model(name, other) for other in table["model"])]
    if absent:
        notes.append(f"In the paper's table, not in these runs: {', '.join(absent)}.")
    stated = {f"{model_name(run)}, hardware: {listed(run.info['hardware'])}." for run in runs}
    return [*notes, *sorted(stated)]

"""Table 1 from stored runs: what the paper says of each method's properties, beside what our runs of it show."""

from collections.abc import Callable, Sequence
from math import nan
from pathlib import Path

import numpy as np
import pandas as pd

from sharpv.files import write_whole
from sharpv.reports.comparison import by_model, model_name, numbers, sort_rows
from sharpv.reports.document import Document, Line, Section
from sharpv.reports.markup import EMPTY, csv_text, fixed, significant
from sharpv.reports.runs import marked
from sharpv.reports.store import Run, load_runs
from sharpv.reports.tables.paper_names import base_method
from sharpv.reports.tables.table3_notes import unfinished

CLAIMS = ("granularity", "cls_independent", "adaptive_ratio", "flash_attention", "adaptive_layer", "cache_reduction")
STAGES = ("pre_llm", "intra_llm")
PRE = (
    *("Method", "Granularity", "CLS independent", "Adaptive ratio", "VR %", "5%-95% of videos", "frames differ by %"),
    *("select ms", "of prefill %", "Complexity"),
)
INTRA = (
    *(
        "Method",
        "FlashAttention",
        "ran with",
        "Adaptive layer",
        "layer sets",
        "Cache reduction",
        "KV held %",
        "KV read %",
    ),
    "Complexity",
)


def write_table1(run_dirs: Sequence[Path | Run], output: Path, paper_csv: Path, name: str = "table1") -> pd.DataFrame:
    """Write <name>.md, <name>.csv and <name>.tex into `output`; return the table, one line a model and row."""
    runs, paper = load_runs(run_dirs), pd.read_csv(paper_csv)
    table = build_table1(runs, paper)
    _document(table, paper, runs).write(output / name)
    write_whole(output / f"{name}.csv", csv_text(table))
    return table


def build_table1(runs: list[Run], paper: pd.DataFrame) -> pd.DataFrame:
    """One line a model and row that is neither dense nor a control, with what its answers show:

    vr_pct, vr_low_pct, vr_high_pct: mean, 5th and 95th percentile over videos of the tokens fed. frame_spread_pct: mean
    over answers of the standard deviation between frames of the share kept. layer_sets: how many different sets of
    layers with cut visual KV occurred. kv_held_pct, mr_pct: visual KV held and read, of the tokens fed. attention: what
    the model ran with. prune_ms, prune_of_prefill_pct: median time of the selection, and that over dense's prefill.
    paper_*: what the paper prints for the method of this name, empty where it has none.
    """
    lines = [line for group in by_model(runs).values() for line in _lines(group)]
    table = pd.DataFrame(lines)
    if table.empty:
        raise ValueError("the runs hold no row beside dense and controls: run experiment=table1")
    printed = {stage: paper[paper["stage"] == stage].set_index("method") for stage in STAGES}
    for stage, claims in printed.items():
        for column in (*CLAIMS, "complexity_as_printed"):
            found = claims[column].reindex(table["method"].map(base_method)).to_numpy()
            table[f"paper_{stage}_{column}"] = found
    return table.dropna(axis=1, how="all")


def _lines(runs: list[Run]) -> list[dict]:
    samples = pd.concat([run.samples for run in runs], ignore_index=True)
    done = samples[samples["status"] == "ok"]
    dense = done[done["kind"] == "dense"]
    prefill_s = numbers(dense, "times_s.prefill").median() if len(dense) else nan
    attention = sorted({str(run.info["attention"]) for run in runs if run.info.get("attention")})
    rows = done[done["kind"].isin(["method", "budget-matched"])]
    found = pd.DataFrame([_line(part, prefill_s) for _, part in rows.groupby("row", sort=False)])
    if found.empty:
        return []
    found = found.assign(model=model_name(runs[0]), attention=", ".join(attention))
    return sort_rows(found, []).to_dict("records")


def _line(part: pd.DataFrame, prefill_s: float) -> dict:
    by_video = numbers(part, "vr").groupby([part["benchmark"], part["video"]]).mean()
    prune_s = numbers(part, "times_s.prune").median()
    return {name: part[name].iloc[0] for name in ("row", "method", "kind")} | {
        "vr_pct": 100 * by_video.mean(),
        "vr_low_pct": 100 * by_video.quantile(0.05),
        "vr_high_pct": 100 * by_video.quantile(0.95),
        "frame_spread_pct": 100 * float(np.mean([_frame_spread(line) for _, line in part.iterrows()])),
        "layer_sets": len({_cut_layers(line) for _, line in part.iterrows()}),
        "kv_held_pct": 100 * numbers(part, "kv_held").mean(),
        "mr_pct": 100 * numbers(part, "mr").mean(),
        "prune_ms": 1e3 * prune_s,
        "prune_of_prefill_pct": 100 * prune_s / prefill_s,
        "n_videos": len(by_video),
    }


def _frame_spread(line: pd.Series) -> float:
    return float(np.std(line["kept_per_frame"])) / (line["grid"][0] * line["grid"][1])


def _cut_layers(line: pd.Series) -> tuple[int, ...]:
    return tuple(layer for layer, held in enumerate(line["layers.visual_kv"]) if held < line["visual_kept"])


def _document(table: pd.DataFrame, paper: pd.DataFrame, runs: list[Run]) -> Document:
    sections = []
    for model, part in table.groupby("model", sort=False):
        for stage, header, cells in (("pre_llm", PRE, _pre), ("intra_llm", INTRA, _intra)):
            order = list(paper.loc[paper["stage"] == stage, "method"])
            lines = [Line(cells(line)) for line in _of_stage(part, stage, order)]
            where = "before the language model" if stage == "pre_llm" else "inside the language model"
            sentence = f"Methods that act {where}: the paper's marks, and what the answers of these runs show."
            sections.append(Section(f"{model}: {where}", sentence, header, lines))
    return Document(marked("Table 1: what the methods are", runs), sections, unfinished(runs), _notes(table, paper))


def _of_stage(part: pd.DataFrame, stage: str, order: list[str]) -> list[pd.Series]:
    """Rows that the paper puts into this stage or that act there, the paper's first in its order."""
    acts = part["vr_pct"] < 99.95 if stage == "pre_llm" else part[["kv_held_pct", "mr_pct"]].min(axis=1) < 99.95
    bases = part["method"].map(base_method)
    chosen = part[acts | bases.isin(order)]
    place = [order.index(base) if base in order else len(order) for base in bases[chosen.index]]
    return [chosen.iloc[index] for index in np.argsort(place, kind="stable")]


def _pre(line: pd.Series) -> list[str]:
    claim = _claims(line, "pre_llm")
    ends = f"{fixed(line['vr_low_pct'])}{EMPTY}{fixed(line['vr_high_pct'])}"
    measured = [fixed(line["vr_pct"]), ends, fixed(line["frame_spread_pct"])]
    spent = [significant(line["prune_ms"]), significant(line["prune_of_prefill_pct"])]
    marks = [claim("granularity"), claim("cls_independent"), claim("adaptive_ratio")]
    return [line["method"], *marks, *measured, *spent, claim("complexity_as_printed")]


def _intra(line: pd.Series) -> list[str]:
    claim = _claims(line, "intra_llm")
    held = [claim("cache_reduction"), fixed(line["kv_held_pct"]), fixed(line["mr_pct"])]
    layers = [claim("adaptive_layer"), f"{line['layer_sets']}"]
    marks = [claim("flash_attention"), line["attention"] or EMPTY]
    return [line["method"], *marks, *layers, *held, claim("complexity_as_printed")]


def _claims(line: pd.Series, stage: str) -> Callable[[str], str]:
    def claim(column: str) -> str:
        value = line.get(f"paper_{stage}_{column}")
        return value if isinstance(value, str) else EMPTY

    return claim


def _notes(table: pd.DataFrame, paper: pd.DataFrame) -> list[str]:
    notes = [
        (
            "Granularity, CLS independent, Adaptive ratio, FlashAttention, Adaptive layer, Cache reduction and "
            "Complexity are the paper's marks as printed, a dash where its table does not hold the method in this "
            "stage. All else is measured."
        ),
        (
            "A ratio that adapts shows in the range of VR over videos and in the difference between frames (mean "
            "standard deviation of the share kept per frame); a merging method may vary for other reasons."
        ),
        (
            "Layer sets: in how many different sets of layers the visual KV was cut over all answers; 1 means always "
            "the same layers (or none), more that the choice depends on the video."
        ),
        (
            "Ran with: the attention implementation of the run. No method here asks the model for attention weights, "
            "not even those that the paper marks as incompatible: single rows are recomputed from queries and keys."
        ),
        (
            "select ms is the stage before the language model; what a method spends inside is part of its prefill and "
            "has no column of its own in the store. CLS independence and complexity cannot be measured from answers."
        ),
    ]
    absent = set(paper["method"]) - set(table["method"].map(base_method))
    if absent:
        notes.append(f"In the paper's table, not in these runs: {', '.join(sorted(absent))}.")
    return notes

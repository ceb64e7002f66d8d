"""More frames at the cost of few: rows at the LLM budget of the fewest dense frames, a line a number of frames."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from sharpv.files import write_whole
from sharpv.reports.comparison import model_name
from sharpv.reports.document import Document, Line, Section
from sharpv.reports.markup import csv_text, difference, ends, fixed, p_value, significant
from sharpv.reports.runs import marked
from sharpv.reports.store import Run, load_runs
from sharpv.reports.tables import table3_notes
from sharpv.reports.tables.table3 import build_table3
from sharpv.reports.tables.table3_columns import SCORE, printed_headings

NEAR = 0.1
"""By which share a row's operations may miss the budget untold."""
NOTES = (
    "Rows at more frames are set to the budget of the fewest dense ones: that share of their visual tokens is computed "
    "by the language model in prefill, mean over its layers. Δ: paired difference to dense at the fewest frames.",
    "Tower: its share of the time to the first token, which no pruning behind it saves. Tokens fed: mean of a sample.",
)


def write_frames(
    run_dirs: Sequence[Path | Run],
    output: Path,
    paper_csv: Path,
    benchmarks: Mapping[str, str],
    name: str = "frames",
    title: str = "More frames at equal cost of the language model",
) -> pd.DataFrame:
    """Write <name>.md, <name>.csv and <name>.tex into `output`; return the table, one line a row and number of frames.

    `benchmarks`: as for `write_table3`. ValueError where no run says how many frames its model saw.
    """
    runs = load_runs(run_dirs)
    table = build_frames(runs, pd.read_csv(paper_csv), benchmarks)
    write_whole(output / f"{name}.csv", csv_text(table))
    heads = printed_headings(runs, benchmarks)
    sections = [_section(str(model), lines, heads) for model, lines in table.groupby("model", sort=False)]
    notes = [
        *NOTES,
        *_off_budget(table),
        *table3_notes.notes(table, pd.read_csv(paper_csv).iloc[:0], as_one_model(runs), benchmarks),
    ]
    Document(marked(title, runs), sections, table3_notes.warnings(table, runs), notes).write(output / name)
    return table


def _off_budget(table: pd.DataFrame) -> list[str]:
    """A sentence for each model with rows whose operations are not near those that all are set to."""
    found = []
    for model, lines in table.groupby("model", sort=False):
        dense = lines.loc[lines["kind"] == "dense", "tflops"].iloc[0]
        others = lines[lines["kind"] != "dense"]
        share = others["tflops"] / dense
        off = [
            f"{line['method']} at {line['frames']:g} frames {share[at]:.0%}"
            for at, line in others.iterrows()
            if line["method"] != "Dense" and abs(share[at] - 1) > NEAR
        ]
        if off:
            found.append(
                f"{model}: TFLOPs of {', '.join(off)} of those of dense at the fewest frames; all other pruned rows "
                f"are within {NEAR:.0%} of them."
            )
    return found


def build_frames(runs: list[Run], paper: pd.DataFrame, benchmarks: Mapping[str, str]) -> pd.DataFrame:
    """Table 3's columns and, in front, `frames`, `tokens_fed` (mean of a sample) and `tower_pct`, the vision tower's
    share of TTFT; by number of frames, then as the rows were run."""
    one = as_one_model(runs)
    table = build_table3(one, paper, benchmarks)
    samples = pd.concat([run.samples.assign(shown=model_name(run)) for run in one], ignore_index=True)
    done = samples[samples["status"] == "ok"].groupby(["shown", "row"])
    facts = pd.DataFrame(
        {
            "frames": done["frames_asked"].first(),
            "tokens_fed": done["visual_kept"].agg(lambda kept: float(np.mean(kept.astype(float)))),
            "tower_pct": 100 * done["times_s.vision"].median() / done["ttft_s"].median(),
        }
    )
    keys = list(zip(table["model"], table["row"], strict=True))
    for place, column in enumerate(facts):
        table.insert(2 + place, column, [facts[column].get(key, np.nan) for key in keys])
    table["method"] = table["method"].str.replace(r" @[\d.]+%$", "", regex=True)
    return table.sort_values(["model", "frames"], kind="stable", ignore_index=True)


def as_one_model(runs: list[Run]) -> list[Run]:
    """The runs of one model at several numbers of frames as runs of one model, whose rows are called by their frames;
    dense ones at more than the fewest are rows like the others."""
    if lacking := [str(run.folder) for run in runs if not run.info["model"].get("frames")]:
        raise ValueError(f"{', '.join(lacking)}: not recorded how many frames the model saw; run experiment=frames")
    fewest: dict[str, int] = {}
    for run in runs:
        name, frames = _plain(run), int(run.info["model"]["frames"])
        fewest[name] = min(frames, fewest.get(name, frames))
    return [_renamed(run, fewest[_plain(run)]) for run in runs]


def _plain(run: Run) -> str:
    return str(run.info["model"]["name"]).partition("@")[0]


def _renamed(run: Run, fewest: int) -> Run:
    frames, model = int(run.info["model"]["frames"]), run.info["model"]
    display = str(model["display"]).removesuffix(f", {frames} frames")
    samples = run.samples.assign(row=run.samples["row"] + f", {frames} frames", frames_asked=frames)
    if frames > fewest:
        samples["kind"] = samples["kind"].replace("dense", "control")
    scores = run.scores.assign(row=run.scores["row"] + f", {frames} frames")
    info = run.info | {"model": model | {"name": _plain(run), "display": display}}
    return replace(run, info=info, samples=samples, scores=scores)


def _section(model: str, lines: pd.DataFrame, heads: Mapping[str, str]) -> Section:
    header = ["Method", "frames", *heads.values(), "Avg.", "Δ", "p (Holm)", "tokens fed", "TFLOPs", "TTFT s", "tower %"]
    written = []
    for _, line in lines.iterrows():
        average = f"{fixed(line['avg_acc'])} {ends(line['avg_acc_low'], line['avg_acc_high'])}"
        cells = [
            *(fixed(line[column], 2 if column == SCORE else 1) for column in heads),
            average.strip(),
            difference(line["diff_to_dense"], line["diff_low"], line["diff_high"]),
            p_value(line["p_holm"]),
            fixed(line["tokens_fed"], 0),
            significant(line["tflops"]),
            significant(line["ttft_s"]),
            fixed(line["tower_pct"], 0),
        ]
        written.append(Line([str(line["method"]), f"{line['frames']:g}", *cells]))
    return Section(model, "Accuracy in percent with its 95% interval, differences in points.", header, written)

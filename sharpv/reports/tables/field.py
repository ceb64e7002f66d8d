"""The table that papers print now: every method at the same budgets, a section a budget, in percent of dense too."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from sharpv.files import write_whole
from sharpv.reports.comparison import KINDS, model_name
from sharpv.reports.document import Document, Line, Section
from sharpv.reports.markup import TIMES, csv_text, difference, fixed, p_value
from sharpv.reports.runs import marked
from sharpv.reports.store import Run, load_runs
from sharpv.reports.tables import table3_notes
from sharpv.reports.tables.paper_names import published_beside
from sharpv.reports.tables.table3 import build_table3
from sharpv.reports.tables.table3_columns import SCORE, printed_headings

NOTES = (
    "Rows at a budget: each method is set so that this share of the visual tokens is computed in prefill, as a mean "
    "over the LLM's layers. fed %: what reaches the first layer; over layers %: that mean, as measured. Papers that "
    "count what is fed compare by the first column, those that count a mean over layers by the second.",
    "Own budget: the video decides how many tokens these methods keep.",
    "In bold: the best average of the methods in its section. % of dense: of the averages.",
)


def write_field(
    run_dirs: Sequence[Path | Run],
    output: Path,
    paper_csv: Path,
    benchmarks: Mapping[str, str],
    name: str = "field_table",
    title: str = "Every method at the same budgets",
) -> pd.DataFrame:
    """Write <name>.md, <name>.csv and <name>.tex into `output`; return the table, one line a row.

    `benchmarks`: as for `write_table3`. ValueError where no row was set to a budget.
    """
    runs, paper = load_runs(run_dirs), pd.read_csv(paper_csv)
    table = build_field(runs, paper, benchmarks)
    write_whole(output / f"{name}.csv", csv_text(table))
    heads = printed_headings(runs, benchmarks)
    models = table.groupby("model", sort=False)
    sections = [section for model, lines in models for section in _sections(str(model), lines, heads)]
    beside = published_beside(paper, [run.info["model"] for run in runs], benchmarks)
    out_of_reach = [
        f"{model_name(run)}, {one['method']} at {_percent(one['budget'])}: n/a, {one['reason']}."
        for run in runs
        for one in run.info.get("unreachable", [])
    ]
    answered = table[table["unreachable"].isna()]
    notes = [*NOTES, *dict.fromkeys(out_of_reach), *table3_notes.notes(answered, beside, runs, benchmarks)]
    Document(marked(title, runs), sections, table3_notes.warnings(answered, runs), notes).write(output / name)
    return table


def build_field(runs: list[Run], paper: pd.DataFrame, benchmarks: Mapping[str, str]) -> pd.DataFrame:
    """Table 3's columns and, in front, `budget_pct` (NaN: the row was not set to one), `of_dense_pct` and `layers_pct`,
    the mean over the layers of the visual rows computed in prefill, all in percent; and a line for each method that
    cannot have a budget, with its reason."""
    table = build_table3(runs, paper, benchmarks)
    budgets = {(model_name(run), row): budget for run in runs for row, budget in run.info.get("budgets", {}).items()}
    budget = [budgets.get((model, row)) for model, row in zip(table["model"], table["row"], strict=True)]
    table.insert(2, "budget_pct", 100 * pd.Series(budget, dtype=float))
    if table["budget_pct"].isna().all():
        raise ValueError("no row of these runs was set to a budget: run experiment=field_table, or give budgets=[...]")
    dense = table[table["kind"] == "dense"].set_index("model")["avg_acc"]
    table.insert(3, "of_dense_pct", 100 * table["avg_acc"] / table["model"].map(dense))
    computed = pd.concat([_over_layers(run) for run in runs]).groupby(["model", "row"])["share"].mean()
    table.insert(4, "layers_pct", [100 * computed[key] for key in zip(table["model"], table["row"], strict=True)])
    # One method at several budgets is one line of a section: its name without the budget.
    table["method"] = table["method"].str.replace(r" @[\d.]+%$", "", regex=True)
    beyond = pd.DataFrame(
        [
            {"model": model_name(run), "method": one["method"], "budget_pct": 100 * one["budget"]}
            | {"kind": "method", "unreachable": one["reason"]}
            for run in runs
            for one in run.info.get("unreachable", [])
        ],
        columns=["model", "method", "budget_pct", "kind", "unreachable"],
    ).drop_duplicates(ignore_index=True)
    return pd.concat([table.assign(unreachable=None), beyond], ignore_index=True)


def _over_layers(run: Run) -> pd.DataFrame:
    """Share of the dense visual rows that prefill computes, mean over layers: one line a row and benchmark."""
    done = run.samples[run.samples["status"] == "ok"]
    share = done["layers.visual_rows"].map(np.mean).astype(float) / done["visual_dense"].astype(float)
    means = share.groupby([done["row"], done["benchmark"]]).mean().rename("share").reset_index()
    return means.assign(model=model_name(run))


def _sections(model: str, lines: pd.DataFrame, heads: Mapping[str, str]) -> list[Section]:
    """A section for the dense row and what sets its own budget, then one a budget, the largest first."""
    own = lines[lines["budget_pct"].isna()]
    found = [_section(f"{model}: dense and own budgets", own, heads)]
    for budget in sorted(set(lines["budget_pct"].dropna().astype(float)), reverse=True):
        part = lines[lines["budget_pct"] == budget]
        ordered = part.iloc[np.argsort([KINDS.index(kind) for kind in part["kind"]], kind="stable")]
        found.append(_section(f"{model}: {_percent(budget / 100)} of the visual tokens", ordered, heads))
    return found


def _section(heading: str, lines: pd.DataFrame, heads: Mapping[str, str]) -> Section:
    header = ["Method", *heads.values(), "Avg.", "% of dense", "Δ dense", "p (Holm)", "fed %", "over layers %"]
    header.append(f"TTFT {TIMES}")
    best = lines.loc[lines["kind"] != "control", "avg_acc"].max()
    written = []
    for _, line in lines.iterrows():
        control = line["kind"] == "control"
        method = f"{line['method']} (control)" if control else line["method"]
        if isinstance(line.get("unreachable"), str):
            written.append(Line([method, *("n/a" for _ in header[1:])]))
            continue
        average = fixed(line["avg_acc"])
        average = f"**{average}**" if line["avg_acc"] == best and not control else average
        cells = [
            *(fixed(line[column], 2 if column == SCORE else 1) for column in heads),
            average,
            fixed(line["of_dense_pct"]),
            difference(line["diff_to_dense"], line["diff_low"], line["diff_high"]),
            p_value(line["p_holm"]),
            fixed(line["vr_pct"]),
            fixed(line["layers_pct"]),
            fixed(line["ttft_speedup"], 2),
        ]
        written.append(Line([method, *cells]))
    return Section(
        heading, "Accuracy in percent; difference to dense in points with its 95% interval.", header, written
    )


def _percent(share: float) -> str:
    return f"{100 * share:g}%"

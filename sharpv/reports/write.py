"""The one door to all tables: which kind a report is follows from its name."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from sharpv.reports.figures.ablation import ablation_figure
from sharpv.reports.figures.style import paper_style, save
from sharpv.reports.store import Run, load_runs
from sharpv.reports.tables.categories import write_categories
from sharpv.reports.tables.field import write_field
from sharpv.reports.tables.frames import write_frames
from sharpv.reports.tables.table1 import write_table1
from sharpv.reports.tables.table2 import write_table2
from sharpv.reports.tables.table3 import write_table3
from sharpv.reports.tables.table4 import write_table4

TITLES = {
    "table3": "Table 3: training-free visual token pruning",
    "field_table": "Every method at the same budgets",
    "fig5": "Figure 5: SharpV's M, w and K",
}
LONG = ("table1", "table2", "table4", "field_table")
"""Tables that ask for numbers by layer."""


def write_report(
    kind: str,
    runs: Sequence[Path | Run],
    output: Path,
    paper: Path,
    columns: Mapping[str, str],
    title: str | None = None,
    name: str | None = None,
    reference: str | None = None,
) -> pd.DataFrame:
    """Write <name>.md, <name>.csv and <name>.tex (name: that of the kind) into `output` and return the table.

    kind: `table1`, `table2` and `table4` are the paper's; `fig5` is its ablation, a table like Table 3 with a picture
    beside it; `categories` has the accuracies by sub-task, `field_table` a section a budget, `frames` a line a number
    of frames; every other is a table like Table 3. runs: records of experiments, or run folders. paper: the folder of
    published tables. columns: the paper's columns of Table 3, or a benchmark's own -> benchmarks of the runs. title,
    reference: of a table like Table 3.
    """
    name, kind = name or kind, Path(kind).name
    folders = load_runs(runs, short=kind not in LONG)
    if kind == "table1":
        return write_table1(folders, output, paper / "table1_methods.csv", name)
    if kind == "table2":
        return write_table2(folders, output, paper / "table2_models.csv", name)
    if kind == "table4":
        return write_table4(folders, output, paper / "table4.csv", columns, name)
    if kind == "categories":
        return write_categories(folders, output, name)
    heading = title or TITLES.get(kind, "Training-free visual token pruning")
    if kind == "frames":
        return write_frames(folders, output, paper / "table3.csv", columns, name, heading)
    if kind == "field_table":
        return write_field(folders, output, paper / "table3.csv", columns, name, heading)
    table = write_table3(folders, output, paper / "table3.csv", columns, name, heading, reference)
    if kind == "fig5":
        for model, lines in table.groupby("model", sort=False):
            ending = (
                "" if table["model"].nunique() == 1 else "_" + "".join(c if c.isalnum() else "_" for c in str(model))
            )
            with paper_style():
                save(ablation_figure(lines.reset_index(drop=True)), output / f"{name}{ending}")
    return table

"""What a terminal shows of a table: one narrow line a row."""

from typing import Any

import pandas as pd
from tabulate import tabulate

from sharpv.reports.markup import EMPTY, TIMES, fixed

COLUMNS = (
    ("at %", "budget_pct", False),
    ("Avg. %", "avg_acc", False),
    ("Δ dense", "diff_to_dense", True),
    (f"VR {TIMES} MR %", "token_budget_pct", False),
)
"""Head, column, and whether a sign is written."""
WIDTH = 40


def essence(table: pd.DataFrame) -> str:
    """Average, difference to dense and token budget of every row, by model; for tables that have none of these, their
    methods and models only."""
    shown = [column for column in COLUMNS if column[1] in table]
    parts = []
    for model, lines in table.groupby("model", sort=False):
        names = lines["method"] if "method" in lines else lines["model"]
        rows: list[list[Any]] = [
            [str(name)[:WIDTH], *(fixed(float(line[column]), sign=sign) for _, column, sign in shown)]
            for name, (_, line) in zip(names, lines.iterrows(), strict=True)
        ]
        align = ("left", *("right" for _ in shown))
        parts.append(
            tabulate(rows, [str(model), *(head for head, _, _ in shown)], colalign=align, disable_numparse=True)
        )
    return "\n\n".join(parts) or EMPTY

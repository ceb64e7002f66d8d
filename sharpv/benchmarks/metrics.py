"""lmms-eval's own aggregates of a task that is scored by its own functions: as a file and as text, never rescaled."""

import json
from pathlib import Path

import pandas as pd

COLUMNS = ("row", "seed", "benchmark", "task", "metric", "filter", "value", "items", "higher_is_better", "failed")


def told(kept: list[Path], benchmark: str) -> str:
    """The aggregates in these files as text, empty without any; also written to metrics.csv beside them."""
    lines = [line for path in kept for line in json.loads(path.read_text(encoding="utf-8"))]
    if not lines:
        return ""
    table = pd.DataFrame(lines).reindex(columns=list(COLUMNS))
    table.to_csv(kept[0].with_name("metrics.csv"), index=False)
    said = f"lmms-eval's own numbers for {benchmark}, as it makes them"
    if table["failed"].any():
        said += "; what it counts for answers that failed, which may be a guess, is in them"
    return f"{said}:\n\n{table.to_markdown(index=False)}\n"

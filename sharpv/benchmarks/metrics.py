"""lmms-eval's own aggregates of a task that is scored by its own functions: as a file and as text, never rescaled."""

import json
from pathlib import Path

import pandas as pd

COLUMNS = ("row", "seed", "benchmark", "task", "metric", "filter", "value", "items", "higher_is_better", "failed")


def told(folder: Path, benchmark: str) -> str:
    """Write results of a run folder's metrics.json to metrics.csv beside it; the same as text, empty without any."""
    path = folder / "metrics.json"
    if not path.is_file():
        return ""
    parts = json.loads(path.read_text(encoding="utf-8"))
    lines = [part["who"] | {"failed": part["failed"]} | one for part in parts for one in part["aggregates"]]
    if not lines:
        return ""
    table = pd.DataFrame(lines).reindex(columns=list(COLUMNS))
    table.to_csv(folder / "metrics.csv", index=False)
    said = f"lmms-eval's own numbers for {benchmark}, as it makes them"
    if table["failed"].any():
        said += "; what it counts for answers that failed, which may be a guess, is in them"
    return f"{said}:\n\n{table.to_markdown(index=False)}\n"

"""Weights & Biases: a table's rows as scalars, the table, its figures and film strips; never asks for a key."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd


def require(mode: Any) -> None:
    """ValueError for `online` without a key that is already set up."""
    if mode == "online":
        import wandb

        if wandb.api.api_key is None:
            raise ValueError("wandb.mode=online needs a key: run `wandb login` once, or use wandb.mode=offline")


def log_report(csv: Path, pictures: Sequence[Path], settings: dict[str, Any], project: str, mode: Any) -> None:
    """Log a table's CSV, its numbers as scalars too, and PNG pictures. mode: `offline` (into ./wandb) or `online`."""
    import wandb

    table = pd.read_csv(csv)
    run = wandb.init(project=project, mode=mode, config=settings, name=csv.stem)
    numbers = table.select_dtypes("number").columns
    for _, line in table.iterrows():
        scalars = {f"{line['method']}/{column}": line[column] for column in numbers if pd.notna(line[column])}
        run.log(scalars, step=0, commit=False)
    run.log({f"figures/{path.stem}": wandb.Image(str(path)) for path in pictures}, step=0, commit=False)
    run.log({csv.stem: wandb.Table(dataframe=table.astype(object).where(table.notna(), None))}, step=0)
    run.finish()
    # The background service writes the last of an offline file when it stops.
    wandb.teardown()

"""Weights & Biases: the rows of a table as scalars and as a table; never asks for a key."""

from pathlib import Path
from typing import Any

import pandas as pd


def log_table(csv: Path, settings: dict[str, Any], project: str, mode: Any) -> None:
    """Log a table's CSV. mode: `offline` writes to ./wandb, `online` needs a key that is already set up.

    ValueError for another mode, or for `online` without a key.
    """
    import wandb

    if mode not in ("offline", "online"):
        raise ValueError(f"wandb.mode={mode!r} is not one of disabled, offline, online")
    if mode == "online" and wandb.api.api_key is None:
        raise ValueError("wandb.mode=online needs a key: run `wandb login` once, or use wandb.mode=offline")
    table = pd.read_csv(csv)
    run = wandb.init(project=project, mode=mode, config=settings, name=csv.stem)
    numbers = table.select_dtypes("number").columns
    for _, line in table.iterrows():
        scalars = {f"{line['method']}/{column}": line[column] for column in numbers if pd.notna(line[column])}
        run.log(scalars, step=0, commit=False)
    run.log({csv.stem: wandb.Table(dataframe=table.astype(object).where(table.notna(), None))}, step=0)
    run.finish()
    # The background service writes the last of an offline file when it stops.
    wandb.teardown()

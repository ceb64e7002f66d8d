"""Whether weights and data are on this machine, told in seconds and before anything is written."""

import shutil
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from sharpv.paths import hub_dir, tasks_dir


class NotAvailableError(ValueError):
    """Something that the run needs is not on this machine; the message says what and how to get it."""


def missing_weights(model: Any) -> str | None:
    """What of a model is missing, with the command that gets it; None where all is there."""
    if Path(model.path).is_dir():
        found = list(Path(model.path).glob("*.safetensors"))
        return (
            None
            if found
            else f"weights: {model.path} holds no safetensors file; for the tiny model: python scripts/train_tiny.py"
        )
    snapshots = hub_dir() / "hub" / f"models--{model.path.replace('/', '--')}" / "snapshots"
    if any(snapshots.glob("*/*.safetensors")):
        return None
    size = f" (about {model.size_gb} GB)" if model.size_gb else ""
    return f"weights of {model.display}{size}: hf download {model.path}"


def missing_data(benchmark: DictConfig) -> str | None:
    """What of a benchmark is missing, with the command that gets it; None where all is there or is made on the spot."""
    if benchmark.data == "tiny":
        return None
    snapshots = hub_dir() / "hub" / f"datasets--{benchmark.data.replace('/', '--')}" / "snapshots"
    if not any(snapshots.glob("*")):
        page = f"size on its page, hf.co/datasets/{benchmark.data}"
        return f"data of {benchmark.name} ({page}): hf download --repo-type dataset {benchmark.data}"
    if not any(tasks_dir().rglob(f"{benchmark.task}.yaml")):
        return f"a task for {benchmark.name}: this version ships the tiny benchmarks only (tasks/)"
    return None


def require_available(models: list[Any], benchmarks: list[DictConfig]) -> None:
    """Raises NotAvailableError listing everything that is missing, its size, and the commands that get it."""
    lines = [*map(missing_weights, models), *(missing_data(benchmark) for benchmark in benchmarks)]
    missing = [line for line in lines if line]
    if missing:
        free = shutil.disk_usage(Path.home()).free / 1e9
        listed = "\n  ".join(missing)
        raise NotAvailableError(
            f"this machine lacks:\n  {listed}\n(free disk: {free:.0f} GB; a run itself never downloads)"
        )

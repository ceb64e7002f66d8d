"""Reading a method's golden file, and comparing what is ours with what was recorded: AssertionError on a mismatch."""

from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file

from .compare import Result, close

__all__ = ["Result", "close", "read", "same"]


def read(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors and metadata of one file."""
    with safe_open(path, "pt") as file:
        return load_file(path), file.metadata()


def same(name: str, ours: torch.Tensor, theirs: torch.Tensor) -> int:
    """Number of integers compared; all must be equal."""
    assert ours.shape == theirs.shape, f"{name}: shape {tuple(ours.shape)} instead of {tuple(theirs.shape)}"
    wrong = int((ours != theirs).sum())
    assert not wrong, f"{name}: {wrong} of {theirs.numel()} differ"
    return theirs.numel()

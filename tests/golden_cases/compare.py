"""Comparisons that name what differs, and the shape of a folder's replay."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

Result = tuple[int, float]
"""How many values were compared, and the largest float difference."""


def equal(name: str, ours: Any, theirs: Any) -> int:
    """The number of values compared; AssertionError naming what differs."""
    assert ours == theirs, f"{name}: {ours!r} is not {theirs!r}"
    return len(theirs) if isinstance(theirs, list) else 1


def close(name: str, ours: torch.Tensor, theirs: torch.Tensor, tolerance: float) -> float:
    """The largest difference; AssertionError beyond the tolerance."""
    assert ours.shape == theirs.shape, f"{name}: shape {tuple(ours.shape)} is not {tuple(theirs.shape)}"
    difference = (ours.float() - theirs.float()).abs().max().item()
    assert difference <= tolerance, f"{name}: off by {difference:.1e}, more than {tolerance:.1e}"
    return difference


def there_name(name: str, there: dict[str, torch.Tensor]) -> str:
    """The parameter's name in the installed transformers, which before 5.18 kept CLIP's and SigLIP's inner module."""
    if name in there:
        return name
    return name.replace("vision_tower.", "vision_tower.vision_model.")


def by_name(files: dict[str, Callable[[Path], Result]]) -> Callable[[Path], Result]:
    """The replay of a folder whose files are told apart by name; LookupError for one without a rule."""

    def case(path: Path) -> Result:
        if path.name not in files:
            raise LookupError(f"no rule replays {path.name}; there are: {', '.join(files)}")
        return files[path.name](path)

    return case

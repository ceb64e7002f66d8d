"""Comparisons that name what differs, and the shape of a folder's replay."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

Result = tuple[int, float]
"""How many values were compared, and the largest float difference."""


def equal(name: str, ours: Any, theirs: Any) -> int:
    """The number of values compared; AssertionError naming what differs."""
    assert ours == theirs, f"{name}: {ours!r} is not {theirs!r}"
    return len(theirs) if isinstance(theirs, list) else 1


def close(name: str, ours: torch.Tensor, theirs: torch.Tensor, tolerance: float) -> float:
    """The largest difference; AssertionError beyond the tolerance."""
    assert ours.shape == theirs.shape, f"{name}: shape {tuple(ours.shape)} is not {tuple(theirs.shape)}"
    difference = (ours.float() - theirs.float()).abs().max().item() if theirs.numel() else 0.0
    assert difference <= tolerance, f"{name}: off by {difference:.1e}, more than {tolerance:.1e}"
    return difference


def there_name(name: str, there: dict[str, torch.Tensor]) -> str:
    """The parameter's name in the installed transformers, which before 5.18 kept CLIP's and SigLIP's inner module."""
    if name in there:
        return name
    return name.replace("vision_tower.", "vision_tower.vision_model.")


@dataclass(frozen=True)
class Recording:
    """One kind of file in a folder. holds: whether a content (see `content_of`) is of this kind."""

    holds: Callable[[Any], bool]
    replay: Callable[[Path], Result]


def content_of(path: Path) -> Any:
    """A JSON file's value, or the names of a safetensors file's tensors."""
    if path.suffix == ".json":
        return json.loads(path.read_text(encoding="utf-8"))
    with safe_open(path, "pt") as file:
        return frozenset(file.keys())


def tensors(ending: str) -> Callable[[Any], bool]:
    """Whether a tensor's name ends so."""
    return lambda held: isinstance(held, frozenset) and any(name.endswith(ending) for name in held)


def values(kind: type) -> Callable[[Any], bool]:
    """Whether a JSON object maps to values of one kind only."""
    return lambda held: isinstance(held, dict) and bool(held) and all(isinstance(each, kind) for each in held.values())


def by_content(files: dict[str, Recording]) -> Callable[[Path], Result]:
    """The replay of a folder whose files are told apart by what they hold, each kind under the name of one such file;
    LookupError for a file of no kind."""

    def case(path: Path) -> Result:
        held = content_of(path)
        replays = [each.replay for each in files.values() if each.holds(held)]
        if len(replays) != 1:
            raise LookupError(f"{path.name} holds what no rule replays; there are files like {', '.join(files)}")
        return replays[0](path)

    return case

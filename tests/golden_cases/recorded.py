"""Reading a method's golden file, and comparing what is ours with what was recorded: AssertionError on a mismatch."""

from collections.abc import Container
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file

from .compare import Result, close

__all__ = ["Declined", "Result", "close", "folder_of", "read", "same"]

FOLDERS = {
    "vbdi/divprune": "divprune",
    "KD-TAO/DyCoke": "dycoke",
    "sgl-project/sglang": "evs",
    "pkunlp-icler/FastV": "fastv",
    "LunarShen/FastVID": "fastvid",
    "thu-nics/FrameFusion": "framefusion",
    "LLaVA-PruMerge": "prumerge",
    "EffiVLM-Bench": "prumerge",
    "Visual-AI/PruneVid": "prunevid",
    "LLaVA-Scissor": "scissor",
    "xinyouu/V-CAST": "vcast",
    "xuyang-liu16/VidCom2": "vidcom2",
    "dvlab-research/VisionZip": "visionzip",
    "cokeshao/HoliTom": "visionzip",
    "Fanziyang-v/FlashVID": "flashvid",
    "Cooperx521/PyramidDrop": "pyramiddrop",
    "lzhxmu/VTW": "vtw",
}
"""The folder that output of a repository is recorded into, unless the metadata's `method` names one: HoliTom's
repository also holds a port of VisionZip."""


class Declined(Exception):  # noqa: N818 - no error: the file is left out on purpose
    """The file is no output of the authors' method, for the reason given."""


def read(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors and metadata of one file."""
    with safe_open(path, "pt") as file:
        return load_file(path), file.metadata()


def same(name: str, ours: torch.Tensor, theirs: torch.Tensor) -> int:
    """Number of integers compared, 1 where both are empty; all must be equal."""
    assert ours.shape == theirs.shape, f"{name}: shape {tuple(ours.shape)} instead of {tuple(theirs.shape)}"
    wrong = int((ours != theirs).sum())
    assert not wrong, f"{name}: {wrong} of {theirs.numel()} differ"
    return max(1, theirs.numel())


def folder_of(path: Path, known: Container[str]) -> str:
    """The folder whose rules replay a file: its own, or else that of the method or repository in its metadata."""
    if path.parent.name in known or path.suffix != ".safetensors":
        return path.parent.name
    with safe_open(path, "pt") as file:
        meta = file.metadata() or {}
    method, repository = meta.get("method", "").partition(" ")[0], meta.get("repo", "")
    if method in known:
        return method
    return next((folder for name, folder in FOLDERS.items() if name in repository), path.parent.name)

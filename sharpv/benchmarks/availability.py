"""Whether weights, annotations, videos, judge and disk space are there, told in seconds and before weights load."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from sharpv import paths
from sharpv.benchmarks.validation import POINTER
from sharpv.tiny import CHECKPOINT
from sharpv.typed import command

LENGTH = 8
"""Bytes at the start of a safetensors file that hold the length of its header."""
TOKENIZERS = ("tokenizer.json", "tokenizer.model")
NAMED = 3
"""How many missing videos a line names."""


class NotAvailableError(ValueError):
    """Something that the run needs is not on this machine; the message says what and how to get it."""


@dataclass(frozen=True)
class Finding:
    """One thing that a run needs: `problem` None where it is there; `fatal` where nothing can run without it."""

    name: str
    detail: str
    problem: str | None = None
    fatal: bool = True

    @property
    def told(self) -> str:
        return f"{self.name}: {self.problem or self.detail}"

    def line(self) -> str:
        state = "ok" if self.problem is None else "MISSING" if self.fatal else "partly"
        return f"{state:8s} {self.told}"


def weights(model: Any) -> Finding:
    """A model's weights: the folder that holds them, or what of them is missing, with the command that gets it."""
    name = f"weights of {model.display}"
    if Path(model.path).is_dir():
        lacking = incomplete(Path(model.path))
        hint = "; it comes with the package, or from python scripts/train_tiny.py" if _is_bundled(model.path) else ""
        return Finding(name, model.path, f"{model.path} lacks {lacking}{hint}" if lacking else None)
    snapshot = paths.hub_snapshot(model.path, "model", getattr(model, "revision", None))
    lacking = incomplete(snapshot) if snapshot is not None else None
    if snapshot is not None and lacking is None:
        return Finding(name, str(snapshot))
    size = f" (about {model.size_gb} GB)" if model.size_gb else ""
    state = f"{snapshot} lacks {lacking}" if lacking else "not downloaded"
    return Finding(name, "", f"{state}{size}; get them: hf download {model.path}")


def _is_bundled(path: str) -> bool:
    return Path(path).resolve() == CHECKPOINT.resolve()


def incomplete(folder: Path) -> str | None:
    """What a checkpoint's folder lacks of configuration, tokenizer and safetensors shards; None where all are there.

    A git-lfs pointer in place of a file, half a safetensors file and a broken index count as lacking, with the reason.
    """
    wanted, lacking = ["config.json"], []
    for index in folder.glob("*.safetensors.index.json"):
        try:
            shards = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
            foreign = [name for name in shards if not name.endswith(".safetensors") or Path(name).name != name]
            lacking += [f"{name} ({index.name} may name safetensors files of its folder only)" for name in foreign]
            wanted += [name for name in shards if name not in foreign]
        except (ValueError, KeyError, AttributeError, TypeError):
            lacking.append(f"{index.name} ({_broken(index) or 'it is broken'})")
    files = [*wanted, *(path.name for path in sorted(folder.glob("*.safetensors")))]
    for name in dict.fromkeys(files):
        if not (folder / name).is_file() or not (folder / name).stat().st_size:
            lacking.append(name)
        elif (reason := _broken(folder / name)) is not None:
            lacking.append(f"{name} ({reason})")
    tokenizers = [folder / name for name in TOKENIZERS if (folder / name).is_file()]
    if not tokenizers:
        lacking.append(" or ".join(TOKENIZERS))
    lacking += [f"{path.name} ({reason})" for path in tokenizers if (reason := _broken(path)) is not None]
    if not any(folder.glob("*.safetensors")):
        lacking.append("any safetensors file")
    return ", ".join(lacking) or None


def _broken(file: Path) -> str | None:
    """Why a file that is there is not the one that was meant; None where nothing of that is seen."""
    with file.open("rb") as content:
        head = content.read(max(len(POINTER), LENGTH))
        if head.startswith(POINTER):
            return "it is a git-lfs pointer, not the file itself: git lfs pull, or hf download"
        if file.suffix != ".safetensors":
            return None
        length, size = int.from_bytes(head[:LENGTH], "little"), file.stat().st_size
        if len(head) < LENGTH or length > size - LENGTH:
            return f"it breaks off after {size} bytes"
        content.seek(LENGTH)
        try:
            tensors = json.loads(content.read(length))
            ends = [entry["data_offsets"][1] for name, entry in tensors.items() if name != "__metadata__"]
        except (ValueError, KeyError, IndexError, AttributeError, TypeError):
            return "its header cannot be read"
    stated = LENGTH + length + max(ends, default=0)
    return None if size == stated else f"it has {size} bytes where its header states {stated}"


def annotations(benchmark: DictConfig) -> Finding:
    """A benchmark's annotations: where they are from, or the command that gets them."""
    name, revision = f"annotations of {benchmark.name}", benchmark.get("revision")
    if benchmark.data == "tiny":
        return Finding(name, "made on the spot by the run")
    if benchmark.data in ("task", "local") or Path(benchmark.data).is_absolute():
        return Finding(name, f"those that the task {benchmark.task} names")
    if paths.hub_snapshot(benchmark.data, "dataset", revision) is not None:
        return Finding(name, benchmark.data)
    page = f"size on its page, hf.co/datasets/{benchmark.data}"
    return Finding(name, "", f"not downloaded ({page}); get them: {download(benchmark)}")


def download(benchmark: DictConfig) -> str:
    """The command that gets a benchmark's annotations and videos."""
    at = f" --revision {benchmark.revision}" if benchmark.get("revision") else ""
    login = "accept the terms on its page, then hf auth login && " if benchmark.get("gated") else ""
    return f"{login}hf download --repo-type dataset {benchmark.data}{at}"


def missing_videos(samples: list[Any]) -> list[Path]:
    """Videos that questions ask about and that are not there, each once, in order."""
    return [video for video in dict.fromkeys(sample.video for sample in asked_of(samples)) if not video.exists()]


def is_any(benchmark: DictConfig) -> bool:
    """Whether a benchmark is asked and scored by its own task's functions: `any`, and a user's with local data."""
    return benchmark.data in ("task", "local") or Path(benchmark.data).is_absolute()


def asked_of(samples: list[Any]) -> list[Any]:
    """Those that can be asked: the others need no video."""
    return [sample for sample in samples if sample.problem is None]


def videos(benchmark: DictConfig, samples: list[Any]) -> Finding:
    """How many of a benchmark's videos are there, which are not, and the command that unpacks them."""
    samples = asked_of(samples)
    asked = len({sample.video for sample in samples})
    name, missing = f"videos of {benchmark.name}", missing_videos(samples)
    if not missing:
        return Finding(name, f"all {asked}, {len(samples)} questions")
    questions = sum(sample.video in set(missing) for sample in samples)
    named = ", ".join(map(str, missing[:NAMED])) + (", ..." if len(missing) > NAMED else "")
    unpack = f"unpack them: {command(f'unpack benchmark={benchmark.name}')}"
    way = "put them there, where its task looks" if is_any(benchmark) else unpack
    problem = f"{len(missing)} of {asked} missing ({questions} questions become errors): {named}; {way}"
    return Finding(name, "", problem, fatal=len(missing) == asked)


def require_available(models: list[Any], benchmarks: list[DictConfig]) -> None:
    """Raises NotAvailableError listing everything that is missing, its size, and the commands that get it."""
    missing = [finding.told for finding in [*map(weights, models), *map(annotations, benchmarks)] if finding.problem]
    if missing:
        listed = "\n  ".join(missing)
        raise NotAvailableError(
            f"this machine lacks:\n  {listed}\n(free disk: {free_gb():.0f} GB; a run itself never downloads)"
        )


def space(folder: Path, wanted_gb: float) -> Finding:
    """Whether so many GB of answers fit where the folder is or will be."""
    free = free_gb(folder)
    told = f"{free:.1f} GB free in {folder}, about {wanted_gb:.3g} GB of answers to come"
    return Finding("disk", told, f"{told}: too little" if wanted_gb > free else None)


def free_gb(folder: Path | None = None) -> float:
    """Free space where the folder is or will be, that of the hub's downloads if not named, in GB of 1e9 bytes."""
    folder = folder or paths.hub_dir()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free / 1e9

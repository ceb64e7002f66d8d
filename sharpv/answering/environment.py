"""What a run was made with: versions, hardware, and a hash of the code that can change an answer."""

import hashlib
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

PACKAGE = Path(__file__).resolve().parent.parent
ANSWERING = (
    "tokens.py",
    "pruners",
    "runtime",
    "models",
    "metrics",
    "configuration",
    "videos",
    "benchmarks",
    "answering",
)
PACKAGES = ("torch", "transformers", "lmms-eval", "datasets", "numpy", "pillow", "av")


def code_hash() -> str:
    """sha256 over the package's modules that take part in an answer."""
    digest = hashlib.sha256()
    files = [file for part in ANSWERING for file in _python_files(PACKAGE / part)]
    for file in sorted(files):
        digest.update(file.relative_to(PACKAGE).as_posix().encode() + file.read_bytes())
    return digest.hexdigest()


def _python_files(path: Path) -> list[Path]:
    return [path] if path.is_file() else list(path.rglob("*.py"))


def versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES} | {"git": _git()}


def _git() -> str:
    answer = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=PACKAGE, capture_output=True, text=True, check=False
    )
    return answer.stdout.strip() or "unknown"


def hardware(device: torch.device) -> dict[str, Any]:
    found: dict[str, Any] = {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": str(device),
    }
    if device.type == "cuda":
        found |= {"gpu": torch.cuda.get_device_name(device), "cuda": torch.version.cuda}
    return found


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    names = (
        [
            line.split(":", 1)[1].strip()
            for line in info.read_text(encoding="utf-8").splitlines()
            if line.startswith("model name")
        ]
        if info.exists()
        else []
    )
    return names[0] if names else platform.processor() or platform.machine()

"""What a number was measured on: hardware, driver, versions."""

import os
import platform
import re
import resource
import subprocess
from importlib.metadata import version
from pathlib import Path

import torch


def describe(device: torch.device) -> dict[str, str]:
    """Hardware and versions as text; `hardware` is the device's name, with its number of threads where it is a CPU."""
    found = {
        "hardware": f"{_cpu_name()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads",
        "driver": "none",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": version("transformers"),
    }
    if device.type == "cuda":
        found["hardware"] = torch.cuda.get_device_name(device)
        found["driver"] = f"{_driver()}, CUDA {torch.version.cuda}"
    return found


def slug(device: torch.device) -> str:
    """The device's name for use in a file name."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_name()
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def peak_host_bytes(whose: int) -> int:
    """The most memory that this process held (resource.RUSAGE_SELF) or any ended child of it (RUSAGE_CHILDREN)."""
    # Linux counts in KiB.
    return resource.getrusage(whose).ru_maxrss * (1024 if platform.system() == "Linux" else 1)


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _driver() -> str:
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()[0]
    except (OSError, subprocess.CalledProcessError, IndexError) as error:
        return f"driver unknown ({type(error).__name__} from nvidia-smi)"

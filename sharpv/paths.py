"""Where things lie on this machine: the only module that reads the environment."""

import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent


def results_dir() -> Path:
    """Folder that runs write to: $SHARPV_RESULTS, else results/ of the checkout."""
    return Path(os.environ.get("SHARPV_RESULTS", REPOSITORY / "results"))


def tasks_dir() -> Path:
    """Folder of our lmms-eval task YAMLs."""
    return REPOSITORY / "tasks"


def hub_dir() -> Path:
    """Where Hugging Face keeps downloads: $HF_HOME, else its default."""
    return Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))


def go_offline() -> None:
    """Keep Hugging Face libraries off the network; call before they are imported."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
    os.environ.setdefault("HF_HOME", str(hub_dir()))
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

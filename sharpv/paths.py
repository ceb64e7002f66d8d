"""Where things lie on this machine: the only module that reads the environment."""

import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent


def results_dir() -> Path:
    """Folder that runs write to: $SHARPV_RESULTS, else results/ of the checkout."""
    return Path(os.environ.get("SHARPV_RESULTS", REPOSITORY / "results"))


def record_path(experiment: str) -> Path:
    """What an experiment asked for, written by its run and read by its reports."""
    return results_dir() / "experiments" / f"{experiment}.json"


def tasks_dir() -> Path:
    """Folder of our lmms-eval task YAMLs."""
    return REPOSITORY / "tasks"


def hub_dir() -> Path:
    """Where Hugging Face keeps downloads: $HF_HOME, else its default."""
    return Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")


def hub_snapshot(repository: str, kind: str, revision: str | None = None) -> Path | None:
    """Folder of a downloaded hub repository (kind `model` or `dataset`) at a revision (main), or None.

    ValueError for what is neither a folder here nor a name that a repository can have.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        found = snapshot_download(
            repository, repo_type=kind, revision=revision, cache_dir=hub_dir() / "hub", local_files_only=True
        )
    except HFValidationError as error:
        raise ValueError(f"{repository!r} is no folder of this machine and no name of a hub repository") from error
    except LocalEntryNotFoundError:
        return None
    return Path(found)


def judge_key() -> str:
    """Key for the judge's endpoint: $OPENAI_API_KEY; local servers take any."""
    return os.environ.get("OPENAI_API_KEY", "none")


def go_offline() -> None:
    """Keep Hugging Face libraries off the network; call before they are imported."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
    os.environ.setdefault("HF_HOME", str(hub_dir()))
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def process_numbers() -> tuple[int, int, int, int]:
    """Rank, number of processes, and both on this machine, as torchrun and accelerate set them; 0, 1, 0, 1 alone."""
    names = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
    rank, count, local_rank, local_count = (int(os.environ.get(name, alone)) for name, alone in names.items())
    return rank, count, local_rank, local_count


def forget_processes() -> None:
    """From here on this process counts as alone, also for libraries that read its numbers themselves."""
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        os.environ.pop(name, None)

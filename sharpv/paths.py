"""Where things lie on this machine: the only module that reads the environment."""

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
INSTALLED = (PACKAGE / "_configs").is_dir()
"""Whether this is a wheel, which carries configurations and tasks inside the package, and no checkout."""
REPOSITORY = Path.cwd() if INSTALLED else PACKAGE.parent
"""What results and documents are written below: the checkout, or for a wheel the working folder."""
NO_KEY = "none"

LONGEST_NAME = 255
"""Bytes that a file's name may have on Linux."""


def results_dir() -> Path:
    """Folder that runs write to: $SHARPV_RESULTS (`~` is the home folder), else results/ of `REPOSITORY`."""
    return _named("SHARPV_RESULTS") or REPOSITORY / "results"


def record_path(experiment: str) -> Path:
    """What an experiment asked for, written by its run and read by its reports."""
    return results_dir() / "experiments" / f"{experiment}.json"


def tasks_dir() -> Path:
    """Folder of our lmms-eval task YAMLs."""
    return PACKAGE / "_tasks" if INSTALLED else REPOSITORY / "tasks"


def configs_dir() -> Path:
    """Folder of our Hydra configurations."""
    return PACKAGE / "_configs" if INSTALLED else REPOSITORY / "configs"


def paper_dir() -> Path:
    """Folder of the paper's numbers as CSV."""
    return PACKAGE / "_paper" if INSTALLED else REPOSITORY / "results" / "paper"


def made_dir() -> Path:
    """What benchmarks' made data lies below: tasks/ of the checkout, or for a wheel a cache."""
    return _cache() / "sharpv" if INSTALLED else tasks_dir()


def tiny_data() -> Path:
    """Folder of the tiny benchmarks' questions and videos, made when first asked for."""
    return made_dir() / "tiny" / "data"


def hub_dir() -> Path:
    """Where Hugging Face keeps downloads, resolved as huggingface_hub does: $HF_HOME, else below $XDG_CACHE_HOME."""
    return _named("HF_HOME") or _cache() / "huggingface"


def _cache() -> Path:
    return _named("XDG_CACHE_HOME") or Path(os.path.expanduser("~"), ".cache")


def hub_cache() -> Path:
    """Where Hugging Face keeps repositories of the hub: $HF_HUB_CACHE or its older name, else hub/ of `hub_dir`."""
    return _named("HF_HUB_CACHE") or _named("HUGGINGFACE_HUB_CACHE") or hub_dir() / "hub"


def _named(variable: str) -> Path | None:
    """The folder that a variable names, with `~` and `$NAME` replaced; None where it is not set or empty."""
    value = os.environ.get(variable)
    return Path(os.path.expandvars(os.path.expanduser(value))) if value else None


def below_data(file: Path) -> str:
    """A data file's path below the folder of its benchmark's data, the same on every machine; else its whole path."""
    for folder in (hub_dir(), made_dir()):
        if file.is_relative_to(folder):
            return file.relative_to(folder).as_posix()
    return str(file.absolute())


def inside(folder: Path, name: str) -> Path:
    """The place of a data file that annotations name; ValueError for a name that leaves the folder or is none.

    What a user links into the folder may lie elsewhere: only the name is looked at.
    """
    root, place = Path(os.path.normpath(folder)), Path(os.path.normpath(folder / name))
    if "\0" in name or root not in place.parents:
        raise ValueError(f"video {name!r} lies outside {folder}")
    if max(map(len, map(os.fsencode, place.parts))) > LONGEST_NAME:
        raise ValueError(f"video {name[:40]!r}... has a name that no file can have")
    return place


def hub_snapshot(repository: str, kind: str, revision: str | None = None) -> Path | None:
    """Folder of a downloaded hub repository (kind `model` or `dataset`) at a revision (main), or None.

    ValueError for what is neither a folder here nor a name that a repository can have.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        found = snapshot_download(
            repository, repo_type=kind, revision=revision, cache_dir=hub_cache(), local_files_only=True
        )
    except HFValidationError as error:
        raise ValueError(f"{repository!r} is no folder of this machine and no name of a hub repository") from error
    except LocalEntryNotFoundError:
        return None
    return Path(found)


def judge_key() -> str:
    """Key for the judge's endpoint: $OPENAI_API_KEY; local servers take any, so without one NO_KEY."""
    return os.environ.get("OPENAI_API_KEY") or NO_KEY


def prepare_command_line() -> None:
    """Hydra raises its errors instead of printing them, and progress bars, also of libraries, show only what takes more
    than a second; call before either is imported."""
    os.environ["HYDRA_FULL_ERROR"] = "1"
    os.environ.setdefault("TQDM_DELAY", "1")


def go_offline() -> None:
    """Keep Hugging Face libraries off the network; call before they are imported."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
    # lmms-eval takes `~` and an empty value literally.
    os.environ["HF_HOME"] = str(hub_dir())
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

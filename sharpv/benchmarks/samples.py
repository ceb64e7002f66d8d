"""The questions of a benchmark as lmms-eval builds them, ready to be grouped by video."""

import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sharpv.benchmarks.validation import guarded, problem, require_readable
from sharpv.paths import hub_snapshot, tasks_dir, tiny_data


@dataclass(frozen=True)
class Sample:
    """One question: its task and number, the user's text, the video file, the answer wanted and how to generate.

    problem: why it cannot be asked or scored, which makes every answer to it an error row; None where it can.
    """

    benchmark: str
    task: str
    doc_id: int
    text: str
    video: Path
    gold: str
    max_new_tokens: int
    doc_hash: str
    doc: dict[str, Any] = field(default_factory=dict, hash=False, compare=False, repr=False)
    problem: str | None = None

    @cached_property
    def seed(self) -> int:
        """Seed of this sample, the same for every row and run."""
        return seed_of(self.task, self.doc_id, self.doc_hash)


def hash_of(doc: dict[str, Any]) -> str:
    """sha256 of a question as its task holds it."""
    return hashlib.sha256(json.dumps(doc, sort_keys=True, default=str).encode()).hexdigest()


def seed_of(task: str, doc_id: int, doc_hash: str) -> int:
    """Seed of a question, for methods that draw numbers."""
    return int(hashlib.sha256(f"{task}/{doc_id}/{doc_hash}".encode()).hexdigest()[:12], 16)


def task_manager(prompt_profile: str) -> Any:
    """lmms-eval's task manager over our own tasks only, whose hub datasets are read from this machine's snapshots.

    It makes tasks once, for every row of a table is scored by the same. The datasets library names what it has read by
    folder, not by content, so it keeps that in a folder that lives as long as the manager: every command reads the
    files that are there.
    """
    from lmms_eval.tasks import TaskManager

    class LocalTasks(TaskManager):
        def __init__(self, *arguments: Any, **named: Any):
            self._read = TemporaryDirectory(prefix="sharpv_annotations_")
            self._made: dict[tuple[str, ...], dict[str, Any]] = {}
            super().__init__(*arguments, **named)

        def load_task_or_group(self, task_list: list[str], task_type: str = "simple") -> dict[str, Any]:
            wanted = (task_type, *task_list)
            if wanted not in self._made:
                self._made[wanted] = super().load_task_or_group(task_list, task_type)
            return dict(self._made[wanted])

        def _get_config(self, name: str) -> dict[str, Any]:
            config = local_data(super()._get_config(name))
            config = _made_data(config) if name.startswith("tiny_") else config
            if "dataset_path" not in config:
                return config
            options = dict(config.get("dataset_kwargs") or {}) | {"cache_dir": self._read.name}
            require_readable(name, config)
            return guarded(config) | {"dataset_kwargs": options}

    return LocalTasks("WARNING", include_path=str(tasks_dir()), include_defaults=False, model_name=prompt_profile)


def local_data(config: dict[str, Any]) -> dict[str, Any]:
    """A task's configuration with its hub dataset replaced by the snapshot on this machine.

    Reading the snapshot needs no network and, unlike the library's own offline mode, no earlier online load. ValueError
    where it was not downloaded.
    """
    source = config.get("dataset_path")
    if source is None or "/" not in source:
        return config
    options = dict(config.get("dataset_kwargs") or {})
    revision = options.pop("revision", None)
    snapshot = hub_snapshot(source, "dataset", revision)
    if snapshot is None:
        at = f" --revision {revision}" if revision else ""
        raise ValueError(f"dataset {source} is not on this machine: hf download --repo-type dataset {source}{at}")
    return config | {"dataset_path": str(snapshot), "dataset_kwargs": options}


def _made_data(config: dict[str, Any]) -> dict[str, Any]:
    """A tiny task's configuration with the place of its data, which lmms-eval looks for beside the task's file only,
    where a wheel holds none. What a group holds is left, since it would replace its tasks' own."""
    options = dict(config.get("dataset_kwargs") or {})
    if not isinstance(named := options.get("data_files"), dict):
        return config
    options["data_files"] = {split: str(tiny_data().parent / file) for split, file in named.items()}
    return config | {"dataset_kwargs": options}


def load_samples(benchmark: str, manager: Any, limit: int | None) -> list[Sample]:
    """All questions of a benchmark (a task or a group of tasks), at most `limit` a task, in the order of their videos.

    Raises ValueError for a benchmark that `tasks/` does not hold, naming those it does, for annotations that cannot be
    read, and where no question of a task can be asked. Single questions that cannot be asked have a `problem`.
    """
    import datasets
    from loguru import logger

    logger.remove()
    datasets.disable_progress_bars()
    if benchmark not in manager.all_tasks:
        groups = sorted(name for name in manager.all_tasks if "mvbench_" not in name)
        raise ValueError(
            f"no task {benchmark!r} in tasks/, as benchmark.task names one; there are: {', '.join(groups)}"
        )
    samples = []
    for name, task in _leaves(_tasks(benchmark, manager)):
        found = [_sample(benchmark, name, task, doc_id, doc) for doc_id, doc in enumerate(_first(task, limit))]
        _tell_problems(name, found)
        optional = _metadata(task).get("videos_may_be_absent", False)
        if optional and not any(sample.video.exists() for sample in found):
            print(f"{name}: n/a, none of its videos is on this machine (they cannot be redistributed)", flush=True)
        else:
            samples += found
    return sorted(samples, key=lambda sample: str(sample.video))


def _tasks(benchmark: str, manager: Any) -> dict[Any, Any]:
    from lmms_eval.tasks import get_task_dict
    from tenacity import RetryError

    try:
        return get_task_dict([benchmark], manager, "chat")
    except RetryError as error:
        reason: BaseException = error.last_attempt.exception() or error
        reason = reason.__cause__ or reason
        told = f"{type(reason).__name__}: {' '.join(str(reason).split())}"
        raise ValueError(f"annotations of {benchmark} cannot be read ({told})") from error


def _tell_problems(name: str, found: list[Sample]) -> None:
    """Print how many questions become error rows; ValueError where all do."""
    reasons = [sample.problem for sample in found if sample.problem]
    if not reasons:
        return
    if len(reasons) == len(found):
        raise ValueError(f"no question of {name} can be asked; the first: {reasons[0]}")
    print(f"{name}: {len(reasons)} of {len(found)} questions become error rows; the first: {reasons[0]}", flush=True)


def _metadata(task: Any) -> dict[str, Any]:
    metadata = task.config.metadata
    return metadata if isinstance(metadata, dict) else {}


def _leaves(tasks: dict[Any, Any]) -> list[tuple[str, Any]]:
    found = []
    for name, value in tasks.items():
        found += _leaves(value) if isinstance(value, dict) else [(str(name), value)]
    return found


def _first(task: Any, limit: int | None) -> list[dict[str, Any]]:
    docs = task.test_docs() if task.has_test_docs() else task.validation_docs()
    count = len(docs) if limit is None else min(limit, len(docs))
    return [docs[index] for index in range(count)]


def _sample(benchmark: str, name: str, task: Any, doc_id: int, doc: dict[str, Any]) -> Sample:
    settings = task.config.generation_kwargs
    asked: dict[str, Any] = {"benchmark": benchmark, "task": name, "doc_id": doc_id, "doc": doc}
    asked["doc_hash"] = hash_of(doc)
    asked["max_new_tokens"] = int(settings["max_new_tokens"])
    try:
        if (reason := problem(doc)) is not None:
            raise ValueError(reason)
        videos = task.doc_to_visual(doc)
    except ValueError as error:
        told = f"{name} question {doc_id}: {error}"
        return Sample(text="", video=Path(f"{name} question {doc_id}"), gold="", problem=told, **asked)
    if len(videos) != 1 or not isinstance(videos[0], str):
        raise ValueError(f"{name} question {doc_id} has {len(videos)} visuals; exactly one video path is supported")
    gold = str(task.doc_to_target(doc))
    return Sample(text=task.doc_to_text(doc), video=Path(videos[0]), gold=gold, **asked)

"""Any generate_until task of lmms-eval with one video a question: built in, or a user's own in a folder.

The task's own functions make the prompt and find the video; ours are which messages can be asked, what a question's
video is called (its path, not a field whose name differs by task), and what a failed answer scores (0).
"""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import chdir
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from sharpv.benchmarks.availability import Finding, videos
from sharpv.benchmarks.closed import NetworkClosedError, network_closed
from sharpv.benchmarks.item_score import item_score, scores_row
from sharpv.benchmarks.messages import NotAskedError, asked, until_stop
from sharpv.benchmarks.samples import Sample, _first, _leaves, hash_of, local_data
from sharpv.benchmarks.submission import UNLABELLED
from sharpv.benchmarks.task_kind import Kind, kind_of
from sharpv.benchmarks.upstream import decord_stands_in
from sharpv.paths import hub_dir, tasks_dir

LONGEST = 1024
"""New tokens of an answer where a task names no number, as lmms-eval's LLaVA-OneVision takes it."""
DOWNLOADS = (
    *("video", "cache_dir", "token", "force_download", "force_unzip", "local_files_only", "create_link"),
    *("From_YouTube", "builder_script"),
)
"""What in dataset_kwargs makes a task's constructor download, or is of use for downloads alone."""
FAILURES = (Exception, SystemExit, NetworkClosedError)
"""What a task raises where a video is missing: 37 modules of lmms-eval 0.7.3 leave Python."""


def task_name(benchmark: DictConfig) -> str:
    """The task asked for. ValueError where none is."""
    if not benchmark.task:
        raise ValueError("benchmark=any needs a task: benchmark.task=mlvu_dev, or your own with include_path=FOLDER")
    return str(benchmark.task)


def _own_folder(benchmark: DictConfig) -> Path | None:
    """The folder that a user names for tasks of his own, as `include_path` or as a benchmark's `data`."""
    named = benchmark.get("include_path") or (benchmark.data if Path(benchmark.data).is_absolute() else None)
    return Path(named) if named else None


def folders(benchmark: DictConfig) -> list[Path]:
    """The folders that hold the task's YAML, the user's before ours before lmms-eval's; empty where none does."""
    import lmms_eval.tasks

    own = _own_folder(benchmark)
    if own is not None and not own.is_dir():
        raise ValueError(f"include_path={own} is no folder: name the one that holds the task's YAML")
    places = [own.resolve()] if own else []
    places += [tasks_dir(), Path(lmms_eval.tasks.__file__).parent]
    wanted = re.compile(rf"^(task|group):\s*[\"']?{re.escape(task_name(benchmark))}[\"']?\s*(#.*)?$", re.MULTILINE)
    for place in places:
        found = {
            file.parent
            for file in place.rglob("*.yaml")
            if wanted.search(file.read_text(encoding="utf-8", errors="replace"))
        }
        if found:
            return sorted(found)
    return []


def manager(benchmark: DictConfig) -> Any:
    """A task manager over the folder of the task alone, or over everything where it is a tag or of several folders."""
    from lmms_eval.tasks import TaskManager

    class OneTask(TaskManager):
        def _get_config(self, name: str) -> dict[str, Any]:
            return without_downloads(super()._get_config(name))

    found, prompts = [str(folder) for folder in folders(benchmark)], str(benchmark.get("prompts") or "default")
    if found:
        narrow = OneTask("ERROR", include_path=found, include_defaults=False, model_name=prompts)
        if task_name(benchmark) in narrow.all_subtasks or _whole(narrow, task_name(benchmark)):
            return narrow
    own = benchmark.get("include_path")
    return OneTask("ERROR", include_path=[str(own)] if own else None, include_defaults=True, model_name=prompts)


def _whole(narrow: Any, group: str) -> bool:
    """Whether all members of a group are indexed."""
    members = narrow.task_index.get(group, {}).get("task", -1)
    if members == -1:
        members = _plain_config(narrow, group).get("task", [])
    return all(not isinstance(member, str) or member in narrow.all_tasks for member in members)


def _plain_config(narrow: Any, name: str) -> dict[str, Any]:
    from lmms_eval.utils import load_yaml_config

    return load_yaml_config(narrow.task_index[name]["yaml_path"], mode="simple")


def without_downloads(config: dict[str, Any]) -> dict[str, Any]:
    """A task's configuration over this machine's data, from which nothing is downloaded. ValueError where it lacks."""
    source = str(config.get("dataset_path") or "")
    config = dict(config) if not source or Path(source).is_dir() else dict(local_data(config))
    options = config.get("dataset_kwargs") or {}
    config["dataset_kwargs"] = {name: value for name, value in options.items() if name not in DOWNLOADS}
    settings = dict(config.get("generation_kwargs") or {})
    if config.get("output_type", "generate_until") == "generate_until":
        config["generation_kwargs"] = {"max_new_tokens": LONGEST} | settings
    return config


@dataclass(frozen=True)
class AnyTask:
    """A benchmark that is asked and scored by the functions of its own tasks, which are here by name."""

    benchmark: DictConfig
    manager: Any
    tasks: list[tuple[str, Any]]

    @classmethod
    def of(cls, benchmark: DictConfig) -> "AnyTask":
        """ValueError for a task that is unknown, broken as shipped (lmms-eval's own reason is told), or refused."""
        from lmms_eval.tasks import get_task_dict
        from loguru import logger

        name, tasks = task_name(benchmark), manager(benchmark)
        logger.remove()
        if name not in tasks.all_tasks:
            own = benchmark.get("include_path")
            raise ValueError(f"no task {name!r} in lmms-eval, in tasks/ or in include_path={own}")
        try:
            with decord_stands_in(), network_closed(OSError):
                found = _leaves(get_task_dict([name], tasks, "chat"))
        except FAILURES as error:
            raise ValueError(f"task {name} cannot be built: {_told(error)}") from error
        for member, task in found:
            if (kind := kind_of(vars(task.config))).name == "refused":
                raise ValueError(f"task {member} is refused: {kind.why}")
        return cls(benchmark, tasks, found)

    @property
    def kind(self) -> Kind:
        """The class of the benchmark: that of its least able task."""
        kinds = [kind_of(vars(task.config)) for _, task in self.tasks]
        return max(kinds, key=lambda one: ("offline", "submission", "judge").index(one.name))

    @property
    def is_scored(self) -> bool:
        """Whether lmms-eval's scoring is run on the answers."""
        return self.kind.name == "offline" and not self.benchmark.get("answers_only")

    def code_hash(self) -> str:
        """Of the files of its tasks and of all in the user's folder, by which stored scores are known to be of today's
        rules."""
        indexed = [self.manager.task_index.get(name, {}).get("yaml_path") for name, _ in self.tasks]
        files_of_tasks = [Path(path).resolve() for path in indexed if isinstance(path, str | Path)]
        places = {*folders(self.benchmark), *(file.parent for file in files_of_tasks)}
        files = {file for place in places for file in place.iterdir()}
        if own := _own_folder(self.benchmark):
            own = own.resolve()
            files |= {file for file in own.rglob("*") if not any(map(_hidden, file.relative_to(own).parts))}
        digest = hashlib.sha256()
        for file in sorted(files):
            # lmms-eval's templates end in yaml without a dot.
            if file.name.endswith((".py", "yaml")) and file.is_file():
                digest.update(file.name.encode() + file.read_bytes())
        return digest.hexdigest()

    def samples(self, limit: int | None) -> list[Sample]:
        """All questions, at most `limit` a task, in the order of their videos. One whose video its task does not find
        is there with what the task says in the place of the video, and becomes an error row.

        ValueError, before anything is answered, where a task needs a judge and `answers_only` is not asked for, where a
        message cannot be asked, and where the task's result is not of a form that its own metrics take.
        """
        found = []
        for name, task in self.tasks:
            docs, offline = list(enumerate(_first(task, limit))), _is_offline(self.benchmark, name, task)
            unscored = [_unscored(self.benchmark, name, task, *one) if offline else NOT_HERE for one in docs]
            if offline and any(unscored):
                told = f"{len(docs) - unscored.count(None)} of {len(docs)} questions have no score of their own"
                print(f"{name}: {told} ({next(filter(None, unscored))}): lmms-eval's number alone", flush=True)
            pairs = zip(docs, unscored, strict=True)
            found += [_sample(self.benchmark, name, task, *one, scored=why is None) for one, why in pairs]
        return sorted(found, key=lambda sample: str(sample.video))

    def score(
        self, rows: dict[tuple[str, int], dict[str, Any]], samples: list[Sample], folder: Path, stamp: str
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """A scores row each for one table row's answers, in the order of the samples, and lmms-eval's own aggregates.

        An answer ends at the first of the task's `until`. A failed one scores 0 here, whatever lmms-eval guesses for
        it. Where a question has no score of its own its gold answer is UNLABELLED: it is in no mean. The scoring runs
        with the network closed and in `folder`: tasks write files for servers where they stand.
        """
        from sharpv.benchmarks.replay import evaluate

        settings = {name: task.config.generation_kwargs for name, task in self.tasks}
        cut = {who: row | {"raw": until_stop(row.get("raw", ""), settings[who[0]])} for who, row in rows.items()}
        results: dict[str, Any] = {"samples": {}, "results": {}}
        if self.is_scored:
            with network_closed(), chdir(folder):
                results = evaluate(cut, samples, self.manager, stamp)
        items = {(task, one["doc_id"]): one for task, found in results["samples"].items() for one in found}
        main = {name: _metrics(task) for name, task in self.tasks}
        lines = []
        for sample in samples:
            who = (sample.task, sample.doc_id)
            item = items.get(who, {})
            metric = next((metric for metric in main[sample.task] if metric in item), "")
            lines.append(_line(sample, cut[who], None if sample.gold == UNLABELLED else item.get(metric)))
        return lines, list(_aggregates(results))


NOT_HERE = "not scored here"


def _is_offline(benchmark: DictConfig, name: str, task: Any) -> bool:
    """Whether the answers to a task are scored here; ValueError where it needs a judge, unless only answers are asked
    for."""
    of_task, answers_only = kind_of(vars(task.config)), bool(benchmark.get("answers_only"))
    if of_task.name == "judge" and not answers_only:
        raise ValueError(
            f"task {name} needs a judge: {of_task.why}; benchmark.answers_only=true answers it without a score"
        )
    return of_task.name == "offline" and not answers_only


def _unscored(benchmark: DictConfig, name: str, task: Any, doc_id: int, doc: dict[str, Any]) -> str | None:
    """Why a question has no score of its own, tried with an empty answer; None where it has.

    ValueError where the result fits none of the task's metrics; for a benchmark of one's own also where it is no score
    from 0 to 1 or the aggregation does not take it.
    """
    metrics, own = _metrics(task), benchmark.data != "task"
    try:
        with network_closed():
            result = task.process_results(deepcopy(doc), [""])
    except FAILURES as error:
        raise ValueError(
            f"process_results of {name} fails on an empty answer to question {doc_id}: {_told(error)}"
        ) from error
    if not isinstance(result, dict) or not set(metrics) & set(result):
        got = sorted(result) if isinstance(result, dict) else type(result).__name__
        raise ValueError(
            f"process_results of {name} returns {got} for question {doc_id}; metric_list of its YAML wants a dict with "
            f"{metrics}"
        )
    main = next(metric for metric in metrics if metric in result)
    lower = any(one["metric"] == main and one.get("higher_is_better") is False for one in task.config.metric_list)
    if not lower and item_score(result[main]) is not None:
        if own:
            _require_aggregation(name, task, main, result[main])
        return None
    returned = f"{result[main]!r} as {main} of question {doc_id}{', of which less is better' if lower else ''}"
    if own:
        raise ValueError(
            f"process_results of {name} returns {returned}: a benchmark of one's own needs a score from 0 to 1, more "
            "being better, as a number or as {'score': 0.0 to 1.0}"
        )
    return f"{returned}, where a score is from 0 to 1, more being better"


def _require_aggregation(name: str, task: Any, metric: str, item: Any) -> None:
    """ValueError where the aggregation of the main metric does not take the item of one question."""
    try:
        with network_closed():
            value = task.aggregation()[metric]([item])
    except FAILURES as error:
        raise ValueError(f"aggregation of {metric} in {name} fails on [{item!r}]: {_told(error)}") from error
    if not isinstance(value, int | float):
        raise ValueError(f"aggregation of {metric} in {name} makes {value!r} of [{item!r}], no number")


def _sample(benchmark: DictConfig, name: str, task: Any, doc_id: int, doc: dict[str, Any], scored: bool) -> Sample:
    try:
        with network_closed():
            text, visual = asked(task, doc)
            gold = str(task.doc_to_target(doc)) if scored else UNLABELLED
        video = Path(visual)
    except NotAskedError as error:
        raise ValueError(f"{name} question {doc_id}: {error}") from error
    except FAILURES as error:
        text, gold = "", "" if scored else UNLABELLED
        video = Path(f"of {name} question {doc_id}: {_told(error)}"[:200].replace("/", "|"))
    return Sample(
        benchmark=str(benchmark.task),
        task=name,
        doc_id=doc_id,
        text=text,
        video=video,
        gold=gold,
        max_new_tokens=int(task.config.generation_kwargs["max_new_tokens"]),
        doc_hash=hash_of(doc),
        doc=doc,
    )


def _line(sample: Sample, row: dict[str, Any], value: Any) -> dict[str, Any]:
    """A scores row of one answer, whose result is `value`, None where it has none."""
    points, failed, told = item_score(value), row["status"] == "error", value if isinstance(value, dict) else {}
    return scores_row(
        sample,
        row,
        {
            "video": _video_id(sample.video),
            "score": 0.0 if points is None or failed else points,
            "judge_score": None,
            "answered": bool(told.get("answered", row["raw"].strip())) and not failed,
            "parsed": str(told.get("parsed", row["raw"])),
        },
    )


def _metrics(task: Any) -> list[str]:
    """The metrics that are computed here, the main one first."""
    return [metric["metric"] for metric in task.config.metric_list or [] if "submission" not in metric["metric"]]


def _aggregates(results: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """lmms-eval's numbers as they are: neither brought to one scale nor left out where they are no numbers."""
    for task, numbers in results["results"].items():
        better = results.get("higher_is_better", {}).get(task, {})
        for name, value in numbers.items():
            metric, _, chosen = name.partition(",")
            if not chosen or "_stderr" in metric or value in ([], None, " "):
                continue
            found = results["samples"].get(task, [])
            counted = sum(one.get(metric) is not None for one in found)
            yield {
                "task": task,
                "metric": metric,
                "filter": chosen,
                "value": value if isinstance(value, int | float) else json.dumps(value, default=str),
                "items": counted or None,
                "higher_is_better": better.get(metric),
            }


def _video_id(video: Path) -> str:
    home = hub_dir().resolve()
    path = video.resolve()
    return str(path.relative_to(home)) if path.is_relative_to(home) else str(path)


def _hidden(name: str) -> bool:
    return name.startswith(".")


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def findings(benchmark: DictConfig) -> list[Finding]:
    """What `check` says of the task: its class and why, its data, its metrics and its first prompt."""
    name = f"task {benchmark.task}"
    try:
        task = AnyTask.of(benchmark)
        config = task.tasks[0][1].config
        metrics = [metric["metric"] for metric in config.metric_list or []]
        lines = [Finding(name, f"{task.kind.name}: {task.kind.why}")]
        lines.append(Finding(f"data of {benchmark.task}", f"{config.dataset_path} {config.dataset_name or ''}".strip()))
        lines.append(Finding("metrics", ", ".join(metrics) or "none"))
        samples = task.samples(None)
    except ValueError as error:
        return [Finding(name, "", str(error))]
    return [*lines, Finding("first prompt", repr(samples[0].text)), videos(benchmark, samples)]

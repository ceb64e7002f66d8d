"""A cell of the grid: one model on one benchmark, with its folder of answers, scores and run.json."""

import hashlib
import json
import os
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from tqdm import tqdm

from sharpv import paths
from sharpv.answering import environment, keys, work
from sharpv.answering.store import SCHEMA, RowStore
from sharpv.benchmarks import submission, upstream
from sharpv.benchmarks.any_task import AnyTask, is_any
from sharpv.benchmarks.columns import headings
from sharpv.benchmarks.judge import apply, judge_of
from sharpv.benchmarks.samples import load_samples
from sharpv.configuration import configure
from sharpv.configuration.rows import Row
from sharpv.reports.store import read_jsonl


class Cell:
    """Knows what is asked, what is left and whether all is there; needs no weights for that.

    folder: named by the hash of all that its answers have in common; cells that differ in rows or limit share it.
    """

    def __init__(self, config: DictConfig, model: Any, rows: list[Row], benchmark: DictConfig, manager: Any):
        self.config, self.model, self.rows, self.benchmark, self.manager = config, model, rows, benchmark, manager
        self.name = f"{model.display} on {benchmark.name}"
        self.own = AnyTask.of(benchmark) if is_any(benchmark) else None
        limit = config.limit
        self.samples = self.own.samples(limit) if self.own else load_samples(benchmark.task, manager, limit)
        run_key = keys.run_key(model, benchmark.name)
        self.folder = paths.results_dir() / "runs" / run_key[:16]
        self.asked = work.questions(self.samples, rows, run_key, config.memory_every)
        self.store = RowStore(self.folder)
        self.judge = judge_of(config.judge) if benchmark.get("judged") else None
        rules = [_tasks_hash(), config.scoring, self.judge.name if self.judge else None]
        self.scoring = keys.digest(rules + ([self.own.code_hash()] if self.own else []))

    @property
    def videos(self) -> list[Path]:
        return list(dict.fromkeys(sample.video for sample in self.samples))

    @property
    def info(self) -> dict[str, Any]:
        """run.json as it is, empty before the first run."""
        path = self.folder / "run.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def left(self, videos: set[Path] | None = None) -> list[work.Question]:
        """What has no answer yet, of these videos (None = all)."""
        return work.left(self.asked, self.store, videos)

    def finished(self) -> bool:
        """Whether every answer is there and scored, by the tasks as they are, for exactly these rows and questions."""
        if self.left() or self.info.get("status") != "complete" or self.info.get("scoring") != self.scoring:
            return False
        scored = {(line["key"], line["row"], line["seed"]) for line in read_jsonl(self.folder / "scores.jsonl")}
        asked = {(task.key, task.row.name, task.row.seed) for question in self.asked for task in question.tasks}
        return scored == asked

    def begin(self, command: str) -> None:
        """Write run.json and config.yaml, status `incomplete`."""
        versions = environment.versions()
        record = {
            "schema": SCHEMA,
            "model": {
                "name": self.model.name,
                "paper_name": self.model.paper_name,
                "display": self.model.display,
            },
            "benchmark": self.benchmark.name,
            "git": versions.pop("git"),
            "versions": versions,
            "command": command,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "requested": {"questions": len(self.samples), "rows": [[row.name, row.hash] for row in self.rows]},
            "scoring": self.scoring,
            "rows": {row.name: row.stages for row in self.rows},
            "columns": headings(self.benchmark),
            "macro": bool(self.benchmark.get("macro")),
            "note": self.benchmark.get("note"),
            "scored_by": f"the judge {self.judge.name}" if self.judge else self.benchmark.get("offline"),
            "status": "incomplete",
        }
        _write(self.folder / "run.json", json.dumps({"hardware": {}} | self.info | record, indent=1))
        configure.write_resolved(self.config, self.folder / "config.yaml")

    def note(self, **facts: Any) -> None:
        """Add facts to run.json."""
        _write(self.folder / "run.json", json.dumps(self.info | facts, indent=1))

    def conclude(self) -> int:
        """Score what all processes answered and set the status; how many answers failed or could not be judged.

        ValueError where a method that must prune kept everything in every answer, or where an answer is missing.
        """
        self.store.read()
        missing = [task.key for question in self.asked for task in question.tasks if task.key not in self.store.rows]
        if missing:
            raise ValueError(f"{len(missing)} answers of {self.name} are missing: start the same command again")
        errors = self._score()
        self._require_pruning()
        self.note(status="incomplete" if errors else "complete", errors=errors)
        return errors

    def submission(self) -> list[Path]:
        """Files of answers for the benchmark's server, a row each, written to results/; none where it has no server."""
        if (form := self.benchmark.get("submission")) is None:
            return []
        keys = {task.key for question in self.asked for task in question.tasks}
        lines = [line for line in read_jsonl(self.folder / "scores.jsonl") if line["key"] in keys]
        return submission.write(form, lines, paths.results_dir(), self.config.table, self.benchmark.name)

    def _score(self) -> int:
        from sharpv.benchmarks.replay import score

        stamp = datetime.now(UTC).strftime("%Y%m%d_%H%M%S")
        scores, errors, beside = [], 0, []
        for number, row in enumerate(tqdm(self.rows, "score", unit="row")):
            answers = {
                (question.sample.task, question.sample.doc_id): self.store.rows[question.tasks[number].key]
                for question in self.asked
            }
            errors += sum(answer["status"] == "error" for answer in answers.values())
            lines = (
                self._by_own_task(answers, row, stamp)
                if self.own
                else score(answers, self.samples, self.manager, stamp)
            )
            scores += [line | {"row": row.name, "seed": row.seed} for line in lines]
            texts = [answers[sample.task, sample.doc_id].get("raw", "") for sample in self.samples]
            if self.judge is not None:
                errors += apply(self.judge, scores[-len(lines) :], texts, self.samples, self.folder / "judge.jsonl")
            if self.config.scoring == "upstream":
                found = upstream.compare(self.benchmark.name, self.samples, texts, lines)
                beside.append({"row": row.name, "seed": row.seed, "benchmark": self.benchmark.name} | found)
        if beside:
            _write(self.folder / "upstream.json", json.dumps(beside, indent=1))
        _write(self.folder / "scores.jsonl", "".join(json.dumps(line) + "\n" for line in scores))
        return errors

    def _by_own_task(self, answers: dict[tuple[str, int], Any], row: Row, stamp: str) -> list[dict[str, Any]]:
        """Score by the task's own rules and keep its aggregates, with the answers that they are of, in metrics.json."""
        assert self.own is not None
        lines, aggregates = self.own.score(answers, self.samples, self.folder, stamp)
        path, who = self.folder / "metrics.json", {"row": row.name, "seed": row.seed, "benchmark": self.benchmark.name}
        failed = sum(answer["status"] == "error" for answer in answers.values())
        others = [one for one in json.loads(path.read_text()) if one["who"] != who] if path.exists() else []
        found = {"who": who, "questions": len(lines), "failed": failed, "aggregates": aggregates}
        _write(path, json.dumps([*others, found], indent=1))
        return lines

    def _require_pruning(self) -> None:
        for number, row in enumerate(self.rows):
            answers = [self.store.rows[question.tasks[number].key] for question in self.asked]
            budgets = [answer["token_budget"] for answer in answers if answer["status"] == "ok"]
            if not row.may_keep_all and budgets and min(budgets) == 1.0:
                raise ValueError(
                    f"row {row.name!r} kept every token of all {len(budgets)} samples: its setting prunes nothing"
                )


def _tasks_hash() -> str:
    """Of the task files and lmms-eval's version; the package's own part in a score is in the run key."""
    digest = hashlib.sha256(version("lmms-eval").encode())
    folder = paths.tasks_dir()
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix in ("", ".py", ".yaml")]
    for path in sorted(files):
        if "data" not in path.relative_to(folder).parts:
            digest.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return digest.hexdigest()


def _write(path: Path, content: str) -> None:
    """Whole or not at all, whoever else writes it."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.write_text(content)
    partial.rename(path)

"""A cell of the grid: one model on one benchmark, with its folder of answers, scores and run.json."""

import hashlib
import json
from collections import Counter
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm

from sharpv import paths
from sharpv.answering import environment, keys, work
from sharpv.answering.store import SCHEMA, RowStore
from sharpv.benchmarks import submission, upstream
from sharpv.benchmarks.any_task import AnyTask
from sharpv.benchmarks.availability import is_any
from sharpv.benchmarks.columns import headings
from sharpv.benchmarks.judge import apply, judge_of
from sharpv.benchmarks.samples import load_samples
from sharpv.configuration.code import code_hash
from sharpv.configuration.rows import Row
from sharpv.files import alone, append_rows, read_jsonl, read_object, write_whole

SCORING = [f"sharpv.benchmarks.{name}" for name in ("replay", "scoring", "judge", "upstream")]
"""The package's own part in a score."""
ANY_TASK = "sharpv.benchmarks.any_task"
"""Its part in a score that a task's own functions give."""


class Cell:
    """Knows what is asked, what is left and whether all is there; needs no weights for that.

    folder: named by the hash of all that its answers have in common; cells that differ in rows or limit share it, at
    the same time too. It is made when the first answer is about to be given.
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
        judged = self.judge.name if self.judge else None
        rules = [self.own.code_hash(), code_hash([*SCORING, ANY_TASK])] if self.own else code_hash(SCORING)
        self.scoring = keys.digest([_tasks_hash(), rules, config.scoring, judged])
        self.keys = [[question.tasks[number].key for question in self.asked] for number in range(len(rows))]

    @property
    def videos(self) -> list[Path]:
        return list(dict.fromkeys(sample.video for sample in self.samples))

    @property
    def info(self) -> dict[str, Any]:
        """run.json as it is, empty before the first run; ValueError where it is none."""
        path = self.folder / "run.json"
        return read_object(path) if path.exists() else {}

    @property
    def beside(self) -> Path:
        """lmms-eval's own numbers for exactly these answers, where `scoring` asks for them."""
        return self.folder / f"upstream.{keys.digest([self.scoring, self.keys])[:16]}.json"

    def metrics(self, number: int) -> Path:
        """lmms-eval's own aggregates over exactly these answers of one row, where the task scores by its own rules."""
        return self.folder / f"metrics.{keys.digest([self.scoring, self.keys[number]])[:16]}.json"

    def left(self, videos: set[Path] | None = None) -> list[work.Question]:
        """What has no answer yet, of these videos (None = all)."""
        return work.left(self.asked, self.store, videos)

    def finished(self) -> bool:
        """Whether every answer is there and scored, by the tasks and the scoring as they are."""
        if self.left() or (self.config.scoring == "upstream" and not self.beside.exists()):
            return False
        scored = self._scored()
        return all(self._is_scored(number, scored) for number in range(len(self.rows)))

    def _is_scored(self, number: int, scored: set[str]) -> bool:
        """Whether all answers of a row are among the scored, and counted together where the task does that."""
        return scored.issuperset(self.keys[number]) and (self.own is None or self.metrics(number).exists())

    def _scored(self) -> set[str]:
        """Keys of the answers that have a score of this kind."""
        return {line["key"] for line in self._scores() if not line.get("judge_error")}

    def _scores(self) -> list[dict[str, Any]]:
        """The scores of this kind."""
        lines = read_jsonl(self.folder / "scores.jsonl")
        return [line for line in lines if line.get("scoring") == self.scoring]

    def begin(self, command: str) -> None:
        """Write run.json and config.yaml, status `incomplete`."""
        facts = {name: value for name, value in self.record(command).items() if name != "asked"}
        self.note(
            **facts,
            schema=SCHEMA,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            requested={"questions": len(self.samples), "rows": [[row.name, row.hash] for row in self.rows]},
            limit=self.config.limit,
            status="incomplete",
        )
        write_whole(self.folder / "config.yaml", OmegaConf.to_yaml(self.config, resolve=True))

    def note(self, **facts: Any) -> None:
        """Add facts to run.json, to those that others add at the same time; the settings of rows to those of others."""
        with alone(self.folder / "lock"):
            known = self.info
            rows = known.get("rows", {}) | facts.get("rows", {})
            write_whole(
                self.folder / "run.json", json.dumps({"hardware": {}} | known | facts | {"rows": rows}, indent=1)
            )

    def record(self, command: str) -> dict[str, Any]:
        """This cell as a part of an experiment: model, benchmark, scoring, settings, each row's keys of its answers."""
        versions = environment.versions()
        return {
            "model": {
                "name": self.model.name,
                "paper_name": self.model.paper_name,
                "display": self.model.display,
                "path": self.model.path,
                "frames": self.model.frames,
            },
            "benchmark": self.benchmark.name,
            "git": versions.pop("git"),
            "versions": versions,
            "command": command,
            "scoring": self.scoring,
            "columns": headings(self.benchmark),
            "macro": bool(self.benchmark.get("macro")),
            "note": self.benchmark.get("note"),
            "scored_by": f"the judge {self.judge.name}" if self.judge else self.benchmark.get("offline"),
            "rows": {row.name: row.stages for row in self.rows},
            "budgets": {row.name: row.budget for row in self.rows},
            "asked": [
                {"row": row.name, "seed": row.seed, "settings": row.hash, "keys": keys}
                for row, keys in zip(self.rows, self.keys, strict=True)
            ],
        }

    def conclude(self) -> int:
        """Score what all processes answered, unless that is done, and set the status; how many answers failed or could
        not be judged. Two commands score the same answers one after the other.

        ValueError where a method that must prune kept everything in every answer, or where an answer is missing.
        """
        with alone(self.folder / "scoring.lock"):
            self.store.read()
            missing = [key for row in self.keys for key in row if key not in self.store.rows]
            if missing:
                raise ValueError(f"{len(missing)} answers of {self.name} are missing: start the same command again")
            errors = 0 if self.finished() else self._score()
        self._require_pruning()
        self.note(status="incomplete" if errors else "complete", errors=errors)
        return errors

    def submission(self, name: str) -> list[Path]:
        """Files of answers for the benchmark's server, a row each, written to results/ under the report's name; none
        where it has no server."""
        if (form := self.benchmark.get("submission")) is None:
            return []
        asked = {key for row in self.keys for key in row}
        lines = [line for line in self._scores() if line["key"] in asked]
        return submission.write(form, lines, paths.results_dir(), name, self.benchmark.name)

    def _score(self) -> int:
        from sharpv.benchmarks.replay import score

        stamp = datetime.now(UTC).strftime("%Y%m%d_%H%M%S")
        scores, errors, beside, scored = [], 0, [], self._scored()
        for number, row in enumerate(tqdm(self.rows, "score", unit="row")):
            if self.config.scoring == "ours" and self._is_scored(number, scored):
                continue
            answers = {
                (question.sample.task, question.sample.doc_id): self.store.rows[question.tasks[number].key]
                for question in self.asked
            }
            errors += sum(answer["status"] == "error" for answer in answers.values())
            lines = (
                self._by_own_task(self.own, answers, number, stamp)
                if self.own
                else score(answers, self.samples, self.manager, stamp)
            )
            scores += [line | {"row": row.name, "seed": row.seed, "scoring": self.scoring} for line in lines]
            texts = [answers[sample.task, sample.doc_id].get("raw", "") for sample in self.samples]
            if self.judge is not None:
                errors += apply(self.judge, scores[-len(lines) :], texts, self.samples, self.folder / "judge.jsonl")
            if self.config.scoring == "upstream":
                found = upstream.compare(self.benchmark.name, self.samples, texts, lines)
                beside.append({"row": row.name, "seed": row.seed, "benchmark": self.benchmark.name} | found)
        if beside:
            write_whole(self.beside, json.dumps(beside, indent=1))
        # An answer that failed is given again, and scored then.
        told = [line for line in scores if self.store.rows[line["key"]]["status"] == "ok"]
        append_rows(self.folder / "scores.jsonl", told)
        return errors

    def _by_own_task(
        self, own: AnyTask, answers: dict[tuple[str, int], Any], number: int, stamp: str
    ) -> list[dict[str, Any]]:
        """Score by the task's own rules and keep its aggregates beside the scores."""
        row = self.rows[number]
        lines, aggregates = own.score(answers, self.samples, self.folder, stamp)
        who = {"row": row.name, "seed": row.seed, "benchmark": self.benchmark.name}
        failed = sum(answer["status"] == "error" for answer in answers.values())
        write_whole(self.metrics(number), json.dumps([who | {"failed": failed} | one for one in aggregates], indent=1))
        return lines

    def reason(self) -> str | None:
        """Why most of the answers asked for that failed did; None where none did."""
        asked = (self.store.rows[key] for row in self.keys for key in row)
        errors = Counter(row["error"] for row in asked if row["status"] == "error")
        return errors.most_common(1)[0][0] if errors else None

    def _require_pruning(self) -> None:
        for number, row in enumerate(self.rows):
            answers = [self.store.rows[question.tasks[number].key] for question in self.asked]
            budgets = [answer["token_budget"] for answer in answers if answer["status"] == "ok"]
            if not row.may_keep_all and budgets and min(budgets) == 1.0:
                raise ValueError(
                    f"row {row.name!r} kept every token of all {len(budgets)} samples: its setting prunes nothing"
                )


def _tasks_hash() -> str:
    """Of the task files and lmms-eval's version."""
    digest = hashlib.sha256(version("lmms-eval").encode())
    folder = paths.tasks_dir()
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix in ("", ".py", ".yaml")]
    for path in sorted(files):
        if "data" not in path.relative_to(folder).parts:
            digest.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return digest.hexdigest()

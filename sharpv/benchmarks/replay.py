"""Scoring: stored answers replayed through lmms-eval's `simple_evaluate`, one model instance a table row."""

import io
from contextlib import redirect_stderr
from typing import Any

from lmms_eval import evaluator
from lmms_eval.api.instance import GenerationResult, Instance, TokenCounts
from lmms_eval.api.model import lmms
from loguru import logger

from sharpv.benchmarks.item_score import scores_row
from sharpv.benchmarks.samples import Sample

logger.remove()


class StoredAnswers(lmms):
    """A chat model of lmms-eval that answers from stored rows; ValueError for a question without one."""

    is_simple = False

    def __init__(self, rows: dict[tuple[str, int], dict[str, Any]]):
        super().__init__()
        self.rows = rows
        self._rank, self._world_size = 0, 1

    def generate_until(self, requests: list[Instance]) -> list[GenerationResult]:
        return [self._result(*request.args[3:5]) for request in requests]

    def _result(self, doc_id: int, task: str) -> GenerationResult:
        if (task, doc_id) not in self.rows:
            raise ValueError(f"no stored answer for question {doc_id} of {task}: run the generation pass first")
        row = self.rows[task, doc_id]
        if row["status"] == "error":
            return GenerationResult("", TokenCounts(0, 0))
        return GenerationResult(
            row["raw"], TokenCounts(row["prompt_tokens"] + row["visual_kept"], row["output_tokens"])
        )

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        raise ValueError("stored answers hold text, not likelihoods: only generate_until tasks can be scored")

    def generate_until_multi_round(self, requests: list[Instance]) -> list[str]:
        raise ValueError("stored answers hold one reply a question: multi-round tasks cannot be scored")

    def clean(self) -> None:
        """lmms-eval calls this to free a model's memory; there is no model here."""


def evaluate(
    rows: dict[tuple[str, int], dict[str, Any]], samples: list[Sample], manager: Any, stamp: str
) -> dict[str, Any]:
    """lmms-eval's results for one table row's answers to these samples."""
    # lmms-eval draws a progress bar a task that no setting turns off; errors still come as exceptions.
    with redirect_stderr(io.StringIO()):
        return evaluator.simple_evaluate(
            model=StoredAnswers(rows),
            tasks=sorted({sample.task for sample in samples}),
            task_manager=manager,
            limit=max(sample.doc_id for sample in samples) + 1,
            bootstrap_iters=0,
            process_docs_parallel=1,
            log_samples=True,
            datetime_str=stamp,
            verbosity="ERROR",
        )


def score(
    rows: dict[tuple[str, int], dict[str, Any]], samples: list[Sample], manager: Any, stamp: str
) -> list[dict[str, Any]]:
    """Score one table row's answers to these samples; a scores row each, in the order of the samples."""
    tasks = sorted({sample.task for sample in samples})
    results = evaluate(rows, samples, manager, stamp)
    scored = {(task, one["doc_id"]): one for task in tasks for one in results["samples"][task]}
    found = []
    for sample in samples:
        row, result = rows[sample.task, sample.doc_id], scored[sample.task, sample.doc_id]["accuracy"]
        told = {name: result[name] for name in ("video", "score", "parsed")}
        told |= {"judge_score": result.get("judge_score"), "answered": result["answered"] and row["status"] == "ok"}
        found.append(scores_row(sample, row, told))
    return found

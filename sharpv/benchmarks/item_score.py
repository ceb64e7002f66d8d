"""What a task's result says of one question: a score from 0 to 1, or that it has none."""

from typing import Any

from sharpv.benchmarks.samples import Sample

SCORES = ("score", "acc", "accuracy", "correct")
PAIRS = (("pred_answer", "answer"), ("parsed_pred", "answer"), ("pred", "ground_truth"))
"""Fields by which lmms-eval's tasks hand an answer and the right one to their aggregation."""


def item_score(item: Any) -> float | None:
    """A bool or a number from 0 to 1, a dict's score, or whether its answer is the right one; None for all else.

    A number beyond 0 to 1 is no share of right answers and gives None. A right answer may be a list of right ones.
    """
    if isinstance(item, bool):
        return float(item)
    # numpy's numbers and bools have `item`.
    if hasattr(item, "item") and getattr(item, "shape", None) == ():
        return item_score(item.item())
    if isinstance(item, int | float):
        return float(item) if 0 <= item <= 1 else None
    if not isinstance(item, dict):
        return None
    for name in SCORES:
        if name in item and (found := item_score(item[name])) is not None:
            return found
    for said, right in PAIRS:
        if said in item and right in item:
            wanted = item[right] if isinstance(item[right], list) else [item[right]]
            return float(str(item[said]) in map(str, wanted))
    return None


def scores_row(sample: Sample, row: dict[str, Any], told: dict[str, Any]) -> dict[str, Any]:
    """A line of scores.jsonl: which answer to which question, and what is told of it, `video`, `score`, `judge_score`,
    `answered` and `parsed`."""
    of_row = {name: row[name] for name in ("key", "row", "seed")}
    asked = {"benchmark": sample.benchmark, "task": sample.task, "doc_id": sample.doc_id, "gold": sample.gold}
    return of_row | asked | told

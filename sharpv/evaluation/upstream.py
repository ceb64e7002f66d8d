"""lmms-eval's own scoring of an answer, beside ours: called as it is installed, quirks included.

Its quirks: MVBench leaves empty answers out of the denominator; NExT-QA guesses at random where it finds no option
(here from a fixed seed, in the order of the questions); VideoMME takes "A man" for the letter A.
"""

import io
import random
from collections.abc import Callable
from contextlib import redirect_stderr
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from loguru import logger

from sharpv import paths


@dataclass(frozen=True)
class Upstream:
    """Where lmms-eval scores a benchmark: module, function, the metric it fills, and the factor to percent."""

    module: str
    process: str
    metric: str
    aggregate: str | None = None
    percent: float = 1.0


BENCHMARKS = {
    "mvbench": Upstream(
        "lmms_eval.tasks.mvbench.utils", "mvbench_process_results", "mvbench_accuracy", "mvbench_aggregate_results"
    ),
    "videomme": Upstream(
        "lmms_eval.tasks.videomme.utils",
        "videomme_process_results",
        "videomme_perception_score",
        "videomme_aggregate_results",
    ),
    "nextqa": Upstream("lmms_eval.tasks.nextqa.utils", "nextqa_mc_process_results", "exact_match", None, 100.0),
}
"""ActivityNet-QA is missing on purpose: upstream's score is its paid judge's, see `sharpv.evaluation.judge`."""


def score(benchmark: str, docs: list[dict[str, Any]], texts: list[str]) -> tuple[list[Any], float]:
    """Upstream's item per answer, in order, and its aggregate in percent. ValueError for a benchmark without one."""
    if benchmark not in BENCHMARKS:
        raise ValueError(f"lmms-eval has no offline scoring of {benchmark!r}; there are: {', '.join(BENCHMARKS)}")
    paths.go_offline()
    rule = BENCHMARKS[benchmark]
    # Importing NExT-QA's module asks the network for NLTK corpora that its multiple-choice part never uses.
    with redirect_stderr(io.StringIO()):
        module = import_module(rule.module)
    logger.remove()
    process: Callable = getattr(module, rule.process)
    random.seed(0)
    items = [process(doc, [text])[rule.metric] for doc, text in zip(docs, texts, strict=True)]
    aggregate = getattr(module, rule.aggregate)(items) if rule.aggregate else sum(map(float, items)) / len(items)
    return items, float(aggregate) * rule.percent

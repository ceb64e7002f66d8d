"""lmms-eval's own scoring of an answer, beside ours: called as it is installed, quirks included.

Its quirks: MVBench leaves empty answers out of the denominator; NExT-QA guesses at random where it finds no option
(here from a fixed seed, in the order of the questions), and so do LongVideoBench and EgoSchema; VideoMME takes "A man"
for the letter A; MLVU knows four letters of the test's six, and a kind of questions without any counts as 0.
"""

import io
import json
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from statistics import fmean
from types import ModuleType
from typing import Any

import pandas as pd
from loguru import logger

from sharpv import paths
from sharpv.benchmarks.samples import Sample


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
    "longvideobench": Upstream(
        "lmms_eval.tasks.longvideobench.utils",
        "longvideobench_process_results",
        "lvb_acc",
        "longvideobench_aggregate_results",
        100.0,
    ),
    "mlvu_dev": Upstream(
        "lmms_eval.tasks.mlvu.utils", "mlvu_process_results", "mlvu_percetion_score", "mlvu_aggregate_results_dev"
    ),
    "mlvu_test": Upstream(
        "lmms_eval.tasks.mlvu.utils", "mlvu_process_results", "mlvu_percetion_score", "mlvu_aggregate_results_test"
    ),
    "egoschema": Upstream(
        "lmms_eval.tasks.egoschema.utils",
        "egoschema_process_results_generation",
        "score",
        "egoschema_aggregate_score",
        100.0,
    ),
}
"""ActivityNet-QA is missing on purpose: upstream's score is its paid judge's, see `sharpv.benchmarks.judge`."""

MACRO = ("mvbench", "mlvu_dev", "mlvu_test")
"""Those whose number is the mean over their sub-tasks."""


def compare(
    benchmark: str, samples: list[Sample], texts: list[str], scores: list[dict[str, Any]]
) -> dict[str, float | None]:
    """Upstream's number and ours for one row's answers, in percent; MVBench and MLVU as means over their sub-tasks.

    None for upstream's where it has no offline scoring; questions with a problem count in ours alone. texts: raw
    answers, empty for those that failed.
    """
    name = benchmark.removeprefix("tiny_")
    groups: dict[str, list[int]] = {}
    by_task: dict[str, list[float]] = {}
    for at, (sample, line) in enumerate(zip(samples, scores, strict=True)):
        groups.setdefault(sample.task if name == "mvbench" else name, []).append(at)
        by_task.setdefault(sample.task if name in MACRO else name, []).append(line["score"])
    ours = list(map(fmean, by_task.values()))
    theirs = None
    if name in BENCHMARKS:
        scored = [[at for at in group if samples[at].problem is None] for group in groups.values()]
        theirs = fmean(
            score(name, [samples[at].doc for at in group], [texts[at] for at in group])[1] for group in scored
        )
    return {"ours": 100 * fmean(ours), "upstream": theirs}


def write_beside(compared: list[Path], output: Path, name: str) -> Path:
    """Write <name>_upstream.{csv,md}: ours and upstream's number of every row and benchmark, seeds averaged.

    compared: files with what `compare` found, one a cell.
    """
    lines = [line for path in compared for line in json.loads(path.read_text(encoding="utf-8"))]
    table = pd.DataFrame(lines).groupby(["row", "benchmark"], sort=False)[["ours", "upstream"]].mean().reset_index()
    table["upstream - ours"] = table["upstream"] - table["ours"]
    table.to_csv(output / f"{name}_upstream.csv", index=False)
    found = f"lmms-eval {version('lmms-eval')}'s own scoring beside ours, in percent; empty: it has none offline."
    path = output / f"{name}_upstream.md"
    path.write_text(f"{found}\n\n{table.to_markdown(index=False, floatfmt='.2f')}\n", encoding="utf-8")
    return path


def task_module(name: str) -> ModuleType:
    """A module of lmms-eval's tasks, imported with the environment that it reads and without its noise."""
    paths.go_offline()
    # Importing NExT-QA's module asks the network for NLTK corpora that its multiple-choice part never uses.
    with decord_stands_in(), redirect_stderr(io.StringIO()):
        module = import_module(name)
    logger.remove()
    return module


@contextmanager
def decord_stands_in() -> Iterator[None]:
    """A module by decord's name where it is not installed, for imports of modules that need it for frames which they
    would read themselves: LongVideoBench's. It has the two names that they import, and reads nothing."""
    installed = find_spec("decord")
    if installed is not None and installed.origin is not None:
        yield
        return
    module = ModuleType("decord")
    vars(module).update(VideoReader=None, cpu=None)
    sys.modules["decord"] = module
    try:
        yield
    finally:
        del sys.modules["decord"]


def score(benchmark: str, docs: list[dict[str, Any]], texts: list[str]) -> tuple[list[Any], float]:
    """Upstream's item per answer, in order, and its aggregate in percent. ValueError for a benchmark without one."""
    if benchmark not in BENCHMARKS:
        raise ValueError(f"lmms-eval has no offline scoring of {benchmark!r}; there are: {', '.join(BENCHMARKS)}")
    rule = BENCHMARKS[benchmark]
    module = task_module(rule.module)
    process: Callable = getattr(module, rule.process)
    random.seed(0)
    items = [process(doc, [text])[rule.metric] for doc, text in zip(docs, texts, strict=True)]
    if rule.aggregate is None:
        return items, sum(map(float, items)) / len(items) * rule.percent
    aggregate = getattr(module, rule.aggregate)
    extra = [None] * (len(signature(aggregate).parameters) - 1)
    return items, float(aggregate(items, *extra)) * rule.percent

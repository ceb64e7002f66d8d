"""One pass over the questions: each video is decoded and encoded once, then every row of the table answers.

Shape suffixes: B batch (1), N prompt rows, D width.
"""

import gc
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from tqdm import tqdm

from sharpv.evaluation.encoding import Encoded, all_layers, choose, encode
from sharpv.evaluation.footprint import footprint
from sharpv.evaluation.loaded import Loaded
from sharpv.evaluation.prefetch import Prefetcher, Prepared
from sharpv.evaluation.record import Outcome, identity, record
from sharpv.evaluation.rows import Row
from sharpv.evaluation.samples import Sample
from sharpv.evaluation.store import RowStore
from sharpv.evaluation.work import Question, Task, by_video
from sharpv.metrics.timing import StageClock
from sharpv.runtime.attach import layer_hooks
from sharpv.runtime.decode import generate
from sharpv.runtime.prompt import assemble, question_rows

FAILURES = (ValueError, RuntimeError, MemoryError)
CPU_ALLOCATOR = "can't allocate memory"


@dataclass(frozen=True)
class Failed:
    """Why there is no result."""

    reason: str


class Runner:
    """Answers questions with their rows and stores every answer at once. workers: see `Prefetcher`."""

    def __init__(self, loaded: Loaded, store: RowStore, workers: int = 0, device: str = ""):
        self.loaded, self.store, self.workers, self.device = loaded, store, workers, device
        self.depth = len(loaded.adapter.language_model.layers)

    def run(self, asked: list[Question], warm_up: int = 1) -> dict[str, float]:
        """Answer all, video by video; what it took: answers, videos, seconds, seconds of waiting for videos."""
        rows = list({id(task.row): task.row for question in asked for task in question.tasks}.values())
        for row in rows:
            if row.memory is not None:
                row.memory.check(self.depth)
        groups, layers = by_video(asked), all_layers(rows)
        prefetcher, start = Prefetcher(self.loaded, self.workers), time.perf_counter()
        total = sum(len(question.tasks) for question in asked)
        videos = prefetcher.prepare([group[0].sample for group in groups])
        with (
            closing(videos),
            layer_hooks(self.loaded.adapter) as self.hooks,
            tqdm(total=total, desc="answer", unit="row") as bar,
        ):
            for group, prepared in zip(groups, videos, strict=True):
                encoded = self._encode(prepared, layers)
                if isinstance(encoded, Encoded):
                    self._warm_up(group[0].sample, rows, encoded, warm_up)
                    warm_up = 0
                for question in group:
                    for task in question.tasks:
                        self._answer_and_store(question, task, encoded)
                        bar.update()
        spent = time.perf_counter() - start
        return {"answers": total, "videos": len(groups), "wall_s": spent, "waiting_s": prefetcher.waiting_s}

    def _encode(self, prepared: Prepared, layers: tuple[int, ...] | None) -> Encoded | Failed:
        if prepared.error is not None:
            return Failed(prepared.error)
        return self._attempt(lambda: encode(self.loaded, prepared, layers), self._empty_caches)

    def _warm_up(self, sample: Sample, rows: list[Row], encoded: Encoded, repeats: int) -> None:
        """Untimed answers of every row, so that no timed one pays for what only the first in a process pays."""
        for row in rows * repeats:
            self._attempt(partial(self.answer, sample, row, encoded), encoded.forget)
        encoded.shared.clear()

    def _attempt(self, action: Callable[[], Any], relieve: Callable[[], None]) -> Any:
        """The action's result or why it failed; out of memory, it is relieved and tried once more."""
        try:
            return action()
        except FAILURES as error:
            if not out_of_memory(error):
                return Failed(f"{type(error).__name__}: {error}")
        # Behind the handler, since the exception's frames hold the tensors that have to go.
        relieve()
        self._empty_caches()
        try:
            return action()
        except FAILURES as error:
            return Failed(f"{type(error).__name__}: {error}")

    @staticmethod
    def _empty_caches() -> None:
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    @torch.inference_mode()
    def answer(self, sample: Sample, row: Row, encoded: Encoded, observe_cosine: bool = False) -> Outcome:
        """One row's answer to one question; its times charge what the row alone would run. Needs `run`'s hooks."""
        loaded = self.loaded
        embeddings_BND, span, prompt = loaded.embed(sample.text, encoded.tokens_TPD, encoded.separators_SD)
        selection, charged, frames = None, {"prune": 0.0}, len(encoded.tokens_TPD)
        if row.visual is not None:
            question_QD = question_rows(embeddings_BND, span, row.visual)
            chosen = choose(loaded, encoded, row, span.geometry.grid, sample.seed, question_QD)
            selection, frames = chosen.selection, chosen.frames
            charged = {"prune": chosen.prune_s, "vision": chosen.vision_s}
        clock = StageClock(loaded.device)
        fed = assemble(embeddings_BND, span, self.depth, selection, sample.seed)
        # Cosines are those of the prefill, so a pass that is there for them stops at the first token.
        greedy = loaded.greedy(1 if observe_cosine else sample.max_new_tokens)
        ids, report = generate(loaded.adapter, self.hooks, fed, row.memory, greedy, clock, observe_cosine)
        times = encoded.times | charged | clock.seconds()
        return Outcome(loaded.decode(ids), prompt, ids, report, selection, times, frames)

    def _answer_and_store(self, question: Question, task: Task, encoded: Encoded | Failed) -> None:
        who = identity(self.loaded, question.sample, task.row, task.key, self.device)
        made: dict[str, Any] | Failed
        if isinstance(encoded, Failed):
            made = encoded
        else:
            made = self._attempt(lambda: self._record(question, task.row, encoded), encoded.forget)
        if isinstance(made, Failed):
            self.store.append(who | {"status": "error", "error": made.reason})
        else:
            self.store.append(who | {"status": "ok", "error": None} | made)

    def _record(self, question: Question, row: Row, encoded: Encoded) -> dict[str, Any]:
        outcome, memory = self.answer(question.sample, row, encoded), None
        cosine = outcome.report.cosine
        if row.kind == "dense":
            cosine = self.answer(question.sample, row, encoded, observe_cosine=True).report.cosine
        if question.measure_memory:
            frames, kv_bytes = outcome.frames_encoded, outcome.report.kv_bytes
            memory = footprint(
                self.loaded, row, encoded, frames, kv_bytes, lambda alone: self.answer(question.sample, row, alone)
            )
        return record(self.loaded, row, outcome, cosine, memory)


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on a GPU, in Python, or in torch's allocator of the CPU."""
    if isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and CPU_ALLOCATOR in str(error)

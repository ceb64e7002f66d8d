"""One pass over the questions: each video is decoded and encoded once, then every row of the table answers.

Shape suffixes: B batch (1), N prompt rows, D width.
"""

import gc
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from tqdm import tqdm

from sharpv.answering.encoding import Encoded, all_layers, choose, encode
from sharpv.answering.footprint import footprint
from sharpv.answering.prefetch import Prefetcher, Prepared
from sharpv.answering.record import Outcome, identity, record
from sharpv.answering.store import RowStore
from sharpv.answering.work import Question, Task, by_video, left
from sharpv.benchmarks.samples import Sample
from sharpv.configuration.rows import Row
from sharpv.metrics.timing import StageClock
from sharpv.models.loaded import Loaded
from sharpv.runtime.attach import layer_hooks
from sharpv.runtime.decode import generate
from sharpv.runtime.prompt import assemble, question_rows
from sharpv.videos.cache import FrameCache

FAILURES = (ValueError, RuntimeError, MemoryError)
CPU_ALLOCATOR = "can't allocate memory"


@dataclass(frozen=True)
class Failed:
    """Why there is no result."""

    reason: str


class Runner:
    """Answers questions with their rows and stores every answer at once. workers, cache: see `Prefetcher`; command: a
    name for the one that asks, whose answers are timed together."""

    def __init__(
        self,
        loaded: Loaded,
        store: RowStore,
        workers: int = 0,
        device: str = "",
        cache: FrameCache | None = None,
        command: str = "",
    ):
        self.loaded, self.store, self.workers, self.device, self.cache = loaded, store, workers, device, cache
        self.command = command
        self.depth = len(loaded.adapter.language_model.layers)

    def check(self, asked: list[Question]) -> None:
        """ValueError where a row's memory stage cannot prune anything in this model."""
        for row in _rows(asked):
            if row.memory is not None:
                row.memory.check(self.depth)

    def run(self, asked: list[Question], warm_up: int = 1) -> dict[str, Any]:
        """Answer all, video by video, but for those that another process works on meanwhile or has answered.

        What it took: answers, videos, seconds, seconds of waiting for videos, and how many videos' frames were reached
        in which way.
        """
        self.check(asked)
        rows, groups, start = _rows(asked), by_video(asked), time.perf_counter()
        layers, ways = all_layers(rows), Counter[str]()
        spent = {"answers": 0.0, "videos": 0.0, "waiting_s": 0.0}
        with (
            layer_hooks(self.loaded.adapter) as self.hooks,
            tqdm(total=_answers(asked), desc="answer", unit="row") as bar,
        ):
            # Those that others work on come last. Waited for without workers, which would claim further ones meanwhile:
            # so nobody waits who holds what another one waits for.
            for wait in (False, True):
                prefetcher = Prefetcher(self.loaded, 0 if wait else self.workers, self.cache)
                taken, passed = deque[list[Question]](), list[list[Question]]()
                videos = prefetcher.prepare(self._claimed(groups, wait, taken, passed, bar))
                with closing(videos):
                    for prepared in videos:
                        group = taken.popleft()
                        encoded = self._encode(prepared, layers)
                        if isinstance(encoded, Encoded):
                            self._warm_up(group[0].sample, rows, encoded, warm_up)
                            warm_up = 0
                        for question in group:
                            for task in question.tasks:
                                self._answer_and_store(question, task, encoded)
                                spent["answers"] += 1
                                bar.update()
                        self.store.release(group[0].sample.video)
                        spent["videos"] += 1
                spent["waiting_s"] += prefetcher.waiting_s
                ways += prefetcher.ways
                groups = passed
        return spent | {"wall_s": time.perf_counter() - start, "ways": dict(ways)}

    def _claimed(
        self,
        groups: list[list[Question]],
        wait: bool,
        taken: deque[list[Question]],
        passed: list[list[Question]],
        bar: tqdm,
    ) -> Iterator[Sample]:
        """A sample of each group that is this process's to answer, what is left of it in `taken`; the groups of videos
        that others have, unless they are waited for, in `passed`."""
        for group in groups:
            video = group[0].sample.video
            if not self.store.claim(video, wait):
                passed.append(group)
            elif own := left(group, self.store):
                taken.append(own)
                bar.update(_answers(group) - _answers(own))
                yield own[0].sample
            else:
                self.store.release(video)
                bar.update(_answers(group))

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
        embeddings_BND, span, prompt = loaded.embed(sample.text, encoded.vision, encoded.pixels)
        selection, charged, frames = None, {"prune": 0.0}, len(encoded.vision.tokens_TPD)
        if row.visual is not None:
            question_QD = question_rows(embeddings_BND, span, row.visual)
            chosen = choose(loaded, encoded, row, sample.seed, question_QD)
            selection, frames = chosen.selection, chosen.frames
            charged = {"prune": chosen.prune_s, "vision": chosen.vision_s}
        clock = StageClock(loaded.device)
        fed = assemble(embeddings_BND, span, self.depth, selection, sample.seed)
        # Cosines are those of the prefill, so a pass that is there for them stops at the first token.
        greedy = loaded.greedy(1 if observe_cosine else sample.max_new_tokens, prompt)
        ids, report = generate(loaded.adapter, self.hooks, fed, row.memory, greedy, clock, observe_cosine)
        times = encoded.times | charged | clock.seconds()
        return Outcome(loaded.decode(ids), prompt, ids, report, selection, times, frames)

    def _answer_and_store(self, question: Question, task: Task, encoded: Encoded | Failed) -> None:
        who = identity(self.loaded, question.sample, task.row, task.key, self.device, self.command)
        made: dict[str, Any] | Failed
        if question.sample.problem is not None:
            made = Failed(question.sample.problem)
        elif isinstance(encoded, Failed):
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
        return encoded.seen | record(self.loaded, row, outcome, cosine, memory)


def _rows(asked: list[Question]) -> list[Row]:
    return list({id(task.row): task.row for question in asked for task in question.tasks}.values())


def _answers(asked: list[Question]) -> int:
    return sum(len(question.tasks) for question in asked)


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on a GPU, in Python, or in torch's allocator of the CPU."""
    if isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and CPU_ALLOCATOR in str(error)

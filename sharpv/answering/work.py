"""What is left to do of a cell: its questions, each with the rows that have no answer yet."""

from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from sharpv.answering.keys import answer_key
from sharpv.answering.store import RowStore
from sharpv.benchmarks.samples import Sample
from sharpv.configuration.rows import Row
from sharpv.videos.fingerprint import fingerprint


@dataclass(frozen=True)
class Task:
    """One row that answers one question; `key` names the answer in the store."""

    row: Row
    key: str


@dataclass(frozen=True)
class Question:
    """A sample with the rows that answer it. measure_memory: whether an extra pass measures their peak memory."""

    sample: Sample
    tasks: list[Task]
    measure_memory: bool = False


def questions(samples: list[Sample], rows: list[Row], run_key: str, memory_every: int) -> list[Question]:
    """All of a cell, in the order of the samples; memory is measured on one in so many from the first, 0 = never."""
    prints = {video: fingerprint(video) for video in {sample.video for sample in samples}}
    return [
        Question(
            sample,
            [Task(row, answer_key(run_key, sample, row, prints[sample.video])) for row in rows],
            memory_every > 0 and number % memory_every == 0,
        )
        for number, sample in enumerate(samples)
    ]


def left(asked: list[Question], store: RowStore, videos: set[Path] | None = None) -> list[Question]:
    """The questions about these videos (None = all) without the rows that have an answer; error rows run again."""
    open_tasks = (
        (question, [task for task in question.tasks if not store.finished(task.key)])
        for question in asked
        if videos is None or question.sample.video in videos
    )
    return [Question(question.sample, tasks, question.measure_memory) for question, tasks in open_tasks if tasks]


def by_video(asked: list[Question]) -> list[list[Question]]:
    """Neighbours about the same video together."""
    return [list(group) for _, group in groupby(asked, key=lambda question: question.sample.video)]

"""Write the tiny benchmarks: real MP4 files and questions in the columns of the real data sets.

Seeds of test videos lie below those of training videos, so that no test scene was ever trained on.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from sharpv.tiny.questions import FAMILIES, LETTERS, Question, with_options
from sharpv.tiny.scenes import Scene, render, sample_scene
from sharpv.tiny.stretching import stretch
from sharpv.tiny.video import write_mp4

MVBENCH_SUBTASKS = (
    "moving_colour",
    "moving_direction",
    "brief_colour",
    "event_order",
    "appearance_time",
    "object_shape",
    "object_place",
    "colour_change",
    "dot_count",
    "background_change",
)
MVBENCH_PER_SUBTASK = 20
VIDEOMME_DURATIONS = {"short": 1, "medium": 4, "long": 12}
VIDEOMME_VIDEOS, VIDEOMME_PER_VIDEO = 24, 3
NEXTQA_FAMILIES = ("moving_colour", "brief_colour", "event_order", "colour_change")
NEXTQA_VIDEOS = 90
ACTNETQA_VIDEOS, ACTNETQA_PER_VIDEO = 42, 5
LONG_FRAMES, LONG_VIDEOS, LONG_PER_VIDEO = 128, 48, 3
VERSION = 2
Row = tuple[str, Scene, int, dict[str, Any]]
"""Name of the video, what it shows, how often each frame is repeated, and the question's columns."""


def write_benchmarks(folder: Path) -> Path:
    """Write all four below `folder` unless they are there; a version always gives the same ones. Safe beside others."""
    mvbench = {f"tiny_mvbench_{subtask}": _mvbench(subtask, 1000 * i) for i, subtask in enumerate(MVBENCH_SUBTASKS)}
    others = {"tiny_videomme": _videomme(100_000), "tiny_nextqa": _nextqa(200_000), "tiny_actnetqa": _actnetqa(300_000)}
    return _write(folder, f"complete_v{VERSION}", mvbench | others)


def write_long(folder: Path) -> Path:
    """Write `tiny_long` in the same way. Apart from the four, as its videos of 128 frames take longer to make."""
    return _write(folder, f"complete_long_v{VERSION}", {"tiny_long": _long(400_000)})


def _write(folder: Path, complete: str, benchmarks: dict[str, Iterator[Row]]) -> Path:
    marker = folder / complete
    if marker.exists():
        return folder
    (folder / "videos").mkdir(parents=True, exist_ok=True)
    written: set[str] = set()
    for name, rows in benchmarks.items():
        docs = []
        for video, scene, repeat, doc in tqdm(list(rows), f"write {name}", leave=False):
            path = folder / "videos" / video
            # A file of that name may show another version's scene, so what is there is never taken over.
            if video not in written:
                partial = path.with_name(f"partial_{os.getpid()}_{video}")
                try:
                    write_mp4(partial, render(scene), repeat)
                    partial.rename(path)
                finally:
                    partial.unlink(missing_ok=True)
                written.add(video)
            docs.append(json.dumps(doc))
        partial = folder / f"partial_{os.getpid()}_{name}.jsonl"
        try:
            partial.write_text("\n".join(docs) + "\n", encoding="utf-8")
            partial.rename(folder / f"{name}.jsonl")
        finally:
            partial.unlink(missing_ok=True)
    marker.touch()
    return folder


def _asked(scene: Scene, families: tuple[str, ...], rng: np.random.Generator, count: int) -> list[Question]:
    """Up to `count` different questions about a scene."""
    questions = [FAMILIES[family](scene, rng) for family in rng.permutation(list(families))]
    return [question for question in questions if question is not None][:count]


def _mvbench(subtask: str, first_seed: int) -> Iterator[Row]:
    seed, written = first_seed, 0
    while written < MVBENCH_PER_SUBTASK:
        scene, rng = sample_scene(seed), np.random.default_rng((seed, 7))
        question = FAMILIES[subtask](scene, rng)
        if question is not None:
            question = with_options(question, scene, 4, rng)
            video = f"mvbench_{subtask}_{seed}.mp4"
            doc = {"video": video, "question": question.text, "candidates": question.options, "answer": question.answer}
            yield video, scene, 2, doc
            written += 1
        seed += 1


def _videomme(first_seed: int) -> Iterator[Row]:
    for d, (duration, repeat) in enumerate(VIDEOMME_DURATIONS.items()):
        for v in range(VIDEOMME_VIDEOS):
            scene = sample_scene(first_seed + 1000 * d + v)
            for doc in _videomme_columns(scene, str(v), duration, VIDEOMME_PER_VIDEO):
                yield f"{scene.seed}.mp4", scene, repeat, doc


def _long(first_seed: int) -> Iterator[Row]:
    """Questions as in `tiny_videomme` about scenes stretched to 128 frames, their brief things shown in 8 of these."""
    for v in range(LONG_VIDEOS):
        scene = sample_scene(first_seed + v)
        for doc in _videomme_columns(scene, str(v), "long", LONG_PER_VIDEO):
            yield f"{scene.seed}.mp4", stretch(scene, LONG_FRAMES), 1, doc


def _videomme_columns(scene: Scene, video: str, duration: str, count: int) -> Iterator[dict[str, Any]]:
    families = tuple(
        family for family in FAMILIES if family not in ("existence", "moving_thing", "brief_thing", "motion_sentence")
    )
    rng = np.random.default_rng((scene.seed, 7))
    for n, question in enumerate(_asked(scene, families, rng, count)):
        question = with_options(question, scene, 4, rng)
        yield {
            "video_id": video,
            "duration": duration,
            "videoID": str(scene.seed),
            "question_id": f"{scene.seed}-{n}",
            "task_type": question.family,
            "question": question.text,
            "options": [f"{letter}. {option}" for letter, option in zip(LETTERS, question.options, strict=False)],
            "answer": question.letter,
        }


def _nextqa(first_seed: int) -> Iterator[Row]:
    for seed in range(first_seed, first_seed + NEXTQA_VIDEOS):
        scene, rng = sample_scene(seed), np.random.default_rng((seed, 7))
        for n, question in enumerate(_asked(scene, NEXTQA_FAMILIES, rng, len(NEXTQA_FAMILIES))):
            question = with_options(question, scene, 5, rng)
            choices = {f"a{i}": option for i, option in enumerate(question.options)}
            answer = question.options.index(question.answer)
            yield (
                f"{seed}.mp4",
                scene,
                3,
                {
                    "video": str(seed),
                    "question": question.text,
                    "answer": answer,
                    "qid": str(n),
                    "type": question.family,
                    **choices,
                },
            )


def _actnetqa(first_seed: int) -> Iterator[Row]:
    families = tuple(FAMILIES)
    for seed in range(first_seed, first_seed + ACTNETQA_VIDEOS):
        scene, rng = sample_scene(seed), np.random.default_rng((seed, 7))
        for n, question in enumerate(_asked(scene, families, rng, ACTNETQA_PER_VIDEO)):
            yield (
                f"v_{seed}.mp4",
                scene,
                6,
                {
                    "video_name": str(seed),
                    "question_id": f"{seed}_{n}",
                    "question": question.text,
                    "answer": question.answer,
                    "type": question.family,
                },
            )

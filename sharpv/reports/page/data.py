"""What the page shows, from runs: one compact index of all answers, their texts, and blocks of what was kept.

Shape suffixes: N tokens of a video, T frames.
"""

import base64
import gzip
import json
from collections.abc import Iterable, Sequence
from functools import cached_property
from math import isnan
from typing import Any

import numpy as np
import pandas as pd

from sharpv.reports.footage import seen_frames, stored_video
from sharpv.reports.masks import kept_mask
from sharpv.reports.store import Run
from sharpv.videos.frames import Sampling

QUESTIONS_A_BLOCK = 64
WRONG, RIGHT, FAILED, MISSING = range(4)
QUESTION = ["benchmark", "task", "doc_id"]
LINE = ["row", "seed"]
NUMBERS = {"vr": "vr", "mr": "mr", "judge": "judge_score"}


class PageData:
    """The answers of runs of one model, question by question and line by line; a line is a table row at one seed.

    ValueError where answers to one question disagree about its frames or grid, or a question has no answer at all.
    """

    def __init__(self, runs: Sequence[Run], order: list[str]):
        """order: names of table rows, as the table shows them; others come behind."""
        answers = pd.concat([run.answers() for run in runs], ignore_index=True)
        named = [name for name in ("video", "video_path") if name in answers]
        answers["video"] = [stored_video(answer) for answer in answers[named].to_dict("records")]
        self.questions = answers.drop_duplicates(QUESTION)[[*QUESTION, "video"]].reset_index(drop=True)
        lines = answers.drop_duplicates(LINE)[[*LINE, "method", "kind"]]
        rank = {name: place for place, name in enumerate(order)}
        lines = lines.sort_values(LINE, key=lambda column: column.map(rank).fillna(len(rank)), kind="stable")
        self.lines = lines.reset_index(drop=True)
        asked = pd.MultiIndex.from_frame(self.questions[QUESTION])
        by_line = {key: part.set_index(QUESTION) for key, part in answers.groupby(LINE, sort=False)}
        named_lines = self.lines[LINE].itertuples(index=False)
        self.by_line = [by_line[row, seed].reindex(asked).reset_index(drop=True) for row, seed in named_lines]

    @cached_property
    def videos(self) -> list[str]:
        return list(dict.fromkeys(self.questions["video"]))

    @cached_property
    def shapes(self) -> list[tuple[int, int, int] | None]:
        """(frames, height, width) of each question's tokens; None where every answer failed."""
        found: list[tuple[int, int, int] | None] = [None] * len(self.questions)
        for line in self.by_line:
            for number, (frames, grid) in enumerate(zip(line["frames"], line["grid"], strict=True)):
                if not isinstance(grid, list):
                    continue
                shape = (int(frames), *grid)
                if found[number] not in (None, shape):
                    name = dict(self.questions.iloc[number])
                    raise ValueError(
                        f"answers to {name} have tokens of shape {found[number]} and {shape}: run it again"
                    )
                found[number] = shape
        return found

    def frames_of_videos(self) -> dict[str, Sampling]:
        """Which frames of each video the model saw; videos whose every answer failed are left out."""
        found: dict[str, Sampling] = {}
        for line in self.by_line:
            answered = line.loc[line["status"] == "ok", line.columns.intersection(["video", "frames", "frame_places"])]
            found |= {
                answer["video"]: seen_frames(answer) for answer in answered.drop_duplicates("video").to_dict("records")
            }
        return {video: found[video] for video in self.videos if video in found}

    def index(self) -> dict[str, Any]:
        """What opens first and what filters need, columns rather than objects; `verdicts`: a digit a question."""
        shapes = list(dict.fromkeys(self.shapes))
        tasks = list(dict.fromkeys(self.questions[["benchmark", "task"]].itertuples(index=False, name=None)))
        places = {video: number for number, video in enumerate(self.videos)}
        pairs = self.questions[["benchmark", "task"]].itertuples(index=False, name=None)
        return {
            "lines": self.lines.to_dict("records"),
            "tasks": tasks,
            "videos": self.videos,
            "shapes": shapes,
            "block": QUESTIONS_A_BLOCK,
            "task": [tasks.index(pair) for pair in pairs],
            "doc": self.questions["doc_id"].tolist(),
            "video": [places[name] for name in self.questions["video"]],
            "shape": [shapes.index(shape) for shape in self.shapes],
            "verdicts": [
                "".join(str(_verdict(*answer)) for answer in zip(line["status"], line["score"], strict=True))
                for line in self.by_line
            ],
        }

    def texts(self) -> dict[str, Any]:
        """What lists show and searches look through: prompts, right answers and what each line said, each the number
        of a text in `texts`, -1 for none."""
        numbers: dict[str, int] = {}

        def numbered(values: pd.Series) -> list[int]:
            return [numbers.setdefault(text, len(numbers)) if isinstance(text, str) else -1 for text in values]

        return {
            "prompt": numbered(self._first("prompt")),
            "gold": numbered(self._first("gold")),
            "said": [numbered(line["raw"].where(line["status"] != "error", line["error"])) for line in self.by_line],
            "texts": list(numbers),
        }

    def _first(self, column: str) -> pd.Series:
        """For each question the first text that a line has."""
        found = self.by_line[0][column]
        for line in self.by_line[1:]:
            found = found.where(found.notna(), line[column])
        return found

    def blocks(self) -> Iterable[dict[str, list]]:
        """Per block of questions and per line: `parsed`, what was read of the answer; VR, MR and the judge's score;
        `bits`, the kept tokens as the store packs them, and `shares`, rows fed per frame where they are not just the
        count of kept tokens (merged rows), else None, and `held`, which share of the visual rows fed each layer's cache
        holds, None where all hold all."""
        for start in range(0, len(self.questions), QUESTIONS_A_BLOCK):
            span = slice(start, start + QUESTIONS_A_BLOCK)
            parts = [line.iloc[span] for line in self.by_line]
            shapes = self.shapes[span]
            yield {
                "parsed": [
                    [text or None if isinstance(text, str) else None for text in part["parsed"]] for part in parts
                ],
                **{name: [_rounded(part[column]) for part in parts] for name, column in NUMBERS.items()},
                "bits": [[bits if isinstance(bits, str) else None for bits in part["kept_bits"]] for part in parts],
                "shares": [list(map(_shares, part["kept_bits"], part["kept_per_frame"], shapes)) for part in parts],
                "held": [list(map(_held, part["layers.visual_kv"], part["visual_kept"])) for part in parts],
            }


def packed(content: Any) -> str:
    """JSON, gzipped, as base64: safe inside a script element whatever the texts hold; the same bytes every time."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(gzip.compress(text.encode(), compresslevel=6, mtime=0)).decode()


def _verdict(status: Any, score: float) -> int:
    if not isinstance(status, str):
        return MISSING
    if status == "error":
        return FAILED
    return RIGHT if score > 0.5 else WRONG


def _rounded(values: pd.Series) -> list[float | None]:
    return [None if isnan(value) else round(value, 4) for value in values.astype(float)]


def _held(counts: Any, fed: Any) -> list[float] | None:
    if not isinstance(counts, list) or all(count == fed for count in counts):
        return None
    return [round(count / fed, 3) for count in counts]


def _shares(bits: Any, per_frame: Any, shape: tuple[int, int, int] | None) -> list[float] | None:
    if not isinstance(bits, str) or shape is None:
        return None
    kept_T = kept_mask(bits, shape[0], shape[1:]).sum((1, 2))
    if np.abs(kept_T - np.asarray(per_frame)).max() < 0.0005:
        return None
    return [round(float(share), 3) for share in per_frame]

"""The film strip of a stored question: which one, which rows, and where its video lies."""

import re
from collections.abc import Sequence
from pathlib import Path
from textwrap import shorten

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sharpv.reports.figures.film_strip import film_strip
from sharpv.reports.footage import Footage, seen_frames, seen_seconds, stored_video
from sharpv.reports.masks import kept_mask
from sharpv.videos.frames import read_video

QUESTION_TEXT = re.compile(r"([^\n>]*\?)")
ROWS = 5
METHODS = ("method", "budget-matched")
"""Kinds of row that a strip is of by itself."""


def choose_question(answers: pd.DataFrame) -> tuple[str, int]:
    """Task and number of a question that dense answers right (where there is one), its kept share varying most between
    frames: in SharpV's last row in the store, else the last method's. ValueError where no row prunes before the model.
    """
    right = answers[(answers["kind"] == "dense") & (answers["score"] == 1)]
    pruned = answers[answers["kind"].isin(METHODS) & (answers["status"] == "ok") & (answers["vr"] < 1)]
    if pruned.empty:
        raise ValueError("no row prunes before the language model: a film strip has nothing to show")
    ours = pruned[pruned["method"].str.startswith("SharpV")]
    rows = ours if len(ours) else pruned
    last = rows[rows["row"] == rows["row"].iloc[-1]]
    asked = last.merge(right[["task", "doc_id"]], on=["task", "doc_id"])
    asked = asked if len(asked) else last
    spread = asked["kept_per_frame"].map(lambda kept: float(np.std(kept, ddof=1)) if len(kept) > 1 else 0.0)
    place = int(spread.to_numpy(dtype=float).argmax())
    return str(asked["task"].iloc[place]), int(asked["doc_id"].iloc[place])


def stored_strip(
    answers: pd.DataFrame, videos: Path, order: Sequence[str], question: tuple[str, int], rows: Sequence[str] = ()
) -> Figure:
    """The strip of one question from its stored masks, the first repetition of each row, with the answers given.

    answers: of one model, with scores. videos: a folder that holds the video somewhere below. order: all rows in the
    table's order; `rows` chooses among them, else the methods that prune before the language model and one control.
    ValueError for an unknown question or row, or a video that is not there or is another one.
    """
    task, number = question
    asked = answers[(answers["task"] == task) & (answers["doc_id"] == number) & (answers["status"] == "ok")]
    lines = asked.sort_values("seed").drop_duplicates("row").set_index("row")
    if lines.empty:
        raise ValueError(f"the run holds no answer to {task}/{number}")
    if unknown := sorted(set(rows) - set(lines.index)):
        raise ValueError(f"rows {unknown} have no answer to {task}/{number}; there are {list(lines.index)}")
    shown = lines.loc[list(rows) or _default_rows(lines, order)]
    most = lines.iloc[int(lines["frames"].to_numpy(dtype=int).argmax())]
    seen = read_video(Footage(videos).file(stored_video(most)), seen_frames(most))
    kept = {
        line["method"]: kept_mask(line["kept_bits"], int(line["frames"]), line["grid"]) for _, line in shown.iterrows()
    }
    captions = {line["method"]: f"{_verdict(line)}: {line['parsed']}" for _, line in shown.iterrows()}
    asked_text = QUESTION_TEXT.search(lines["prompt"].iloc[0])
    title = asked_text.group(1).strip() if asked_text else f"{task}, question {number}"
    title = f"{shorten(title, 90)}  Right answer: {lines['gold'].iloc[0]}"
    return film_strip(seen.frames_THWC, kept, title, captions, seconds=seen_seconds(most, seen.fps))


def _default_rows(lines: pd.DataFrame, order: Sequence[str]) -> list[str]:
    kinds = lines.loc[lines["vr"].astype(float) < 1, "kind"].to_dict()
    methods = [row for row in order if kinds.get(row) in METHODS]
    controls = [row for row in order if kinds.get(row) == "control"]
    return [*methods[-ROWS:], *controls[:1]]


def _verdict(line: pd.Series) -> str:
    return "right" if float(line["score"]) == 1 else "wrong"

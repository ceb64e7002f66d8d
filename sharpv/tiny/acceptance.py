"""Whether the tiny model takes the loss of tokens as real VideoLLMs do, judged by rows that are no method's.

Decided by dense, random, coarser and blind rows only: no method's figure has a say in the choice of a checkpoint.

python -m sharpv.tiny.acceptance [floor.csv]      exit code 1 where a row misses its mark
"""

import csv
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from sharpv.paths import results_dir
from sharpv.tiny.benchmarks import ACTNETQA_PER_VIDEO, ACTNETQA_VIDEOS

PRUNED = (
    "floor_random_75",
    "floor_random_50",
    "floor_random_25",
    "random_tenth",
    "floor_half_frames",
    "floor_half_grid",
)
OPEN_QUESTIONS = ACTNETQA_VIDEOS * ACTNETQA_PER_VIDEO


class Mark(NamedTuple):
    """One thing asked of the model: what was measured, and the least and most that it may be."""

    name: str
    measured: float
    least: float
    most: float

    @property
    def met(self) -> bool:
        return self.least <= self.measured <= self.most


def marks(rows: Mapping[str, Mapping[str, str]]) -> list[Mark]:
    """The marks of a floor table, by row name. Accuracies in percent, losses in points below dense.

    Answers without an option are counted against the questions with options alone. Raises ValueError where a row is
    missing or was run on part of the questions only.
    """
    if missing := [name for name in ("dense", *PRUNED, "blind") if name not in rows]:
        raise ValueError(f"no row {', '.join(missing)} in the floor table; run experiment=tiny_floor profile=tiny")
    if len(counts := {row["n_questions"] for row in rows.values()}) > 1 or int(max(counts)) <= OPEN_QUESTIONS:
        raise ValueError(f"the floor table is of {sorted(counts)} questions; run experiment=tiny_floor without a limit")
    dense = float(rows["dense"]["avg_acc"])
    lost = {name: dense - float(rows[name]["avg_acc"]) for name in PRUNED}
    with_options = int(counts.pop()) - OPEN_QUESTIONS
    unanswered = sum(float(rows[name]["unanswered"]) for name in PRUNED)
    ends = float(rows["dense"]["actnetqa_acc"]) - float(rows["floor_random_50"]["actnetqa_acc"])
    return [
        Mark("dense", dense, 85, 100),
        Mark("no video", float(rows["blind"]["avg_acc"]), 0, 40),
        Mark("lost at random 75%", lost["floor_random_75"], -100, 3),
        Mark("lost at random 50%", lost["floor_random_50"], -100, 7),
        Mark("lost at random 25%", lost["floor_random_25"], 5, 20),
        Mark("lost at random 10%", lost["random_tenth"], 15, 100),
        Mark("lost with half the frames", lost["floor_half_frames"], -100, 12),
        Mark("lost with a grid of half the tokens", lost["floor_half_grid"], -100, 12),
        Mark("answers without an option, % of all pruned", 100 * unanswered / (with_options * len(PRUNED)), 0, 2),
        Mark("ActNet-QA lost at random 50%", ends, -100, 10),
    ]


def main(path: Path) -> int:
    with path.open(newline="") as lines:
        found = marks({row["row"]: row for row in csv.DictReader(lines)})
    for mark in found:
        asked = " and ".join(
            [f"at least {mark.least:g}"] * (mark.least > 0) + [f"at most {mark.most:g}"] * (mark.most < 100)
        )
        print(f"{mark.name:45}{mark.measured:7.1f}   {asked:27}{'met' if mark.met else 'MISSED'}")
    return 0 if all(mark.met for mark in found) else 1


if __name__ == "__main__":
    try:
        sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else results_dir() / "tiny" / "floor.csv"))
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")

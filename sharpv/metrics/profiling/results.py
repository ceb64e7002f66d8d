"""The result file of a profile: rows appended to a CSV, read back and put beside dense."""

import csv
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import Any

SETTINGS = (
    "model weights layers tower_layers dtype attention device tokens repeats clock force_ratio force_memory hardware "
    "driver python torch transformers"
).split(" ")
"""Columns in which all rows of one table agree."""

STAGES = ("vision", "prune", "session", "prefill", "first_token", "ttft", "tpot")
COLUMNS = [
    *SETTINGS,
    "command",
    *"frames pruner status reason frames_encoded visual_dense visual_kept vr mr".split(" "),
    *(f"{stage}_s{end}" for stage in STAGES for end in ("", "_low", "_high")),
    *"flops_vision flops_prefill flops_prefill_eq5 flops_decode_token".split(" "),
    *"weights_bytes peak_vision_bytes peak_prune_bytes peak_prefill_bytes peak_decode_bytes".split(" "),
    *"kv_bytes kv_bytes_predicted".split(" "),
]


class Results:
    """Rows of one CSV. ValueError where the file on disk has other columns than this version writes."""

    def __init__(self, path: Path):
        self.path, self.rows = path, list[dict[str, str]]()
        if path.exists():
            with path.open(newline="", encoding="utf-8") as file:
                reader = csv.DictReader(file)
                if reader.fieldnames != COLUMNS:
                    raise ValueError(f"{path} was written by another version: move it away to begin a new one")
                self.rows = list(reader)

    def missing(self, settings: dict[str, Any], frames: int, pruners: Iterable[str]) -> list[str]:
        """Pruners that have no row with these settings and frames; dense with them, so that they have their like."""
        ours = [row for row in self.rows if all(row[name] == str(settings[name]) for name in SETTINGS)]
        done = {row["pruner"] for row in ours if row["frames"] == str(frames)}
        return [name for name in pruners if name not in done]

    def append(self, rows: list[dict[str, Any]]) -> None:
        """Write rows at once, so that a killed run loses one block at most."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fresh = not self.path.exists()
        with self.path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS)
            if fresh:
                writer.writeheader()
            writer.writerows(rows)
        self.rows += [{name: str(row.get(name, "")) for name in COLUMNS} for row in rows]


class Compared:
    """A measured row beside the dense row of its block; numbers in seconds, bytes and operations."""

    def __init__(self, row: dict[str, str], dense: dict[str, str]):
        self.row, self.dense, self.name = row, dense, row["pruner"]
        self.speedup = self.dense_value("ttft_s") / self.value("ttft_s")
        self.decode_speedup = self.dense_value("tpot_s") / self.value("tpot_s")
        language = self.dense_value("prefill_s") + self.dense_value("first_token_s")
        self.bound_s = self.value("vision_s") + language * self.ratio("flops_prefill")
        self.bound_speedup = self.dense_value("ttft_s") / self.bound_s
        self.over_bound = self.value("ttft_s") / self.bound_s - 1
        self.answer_s = self.value("ttft_s") + (int(row["tokens"]) - 1) * self.value("tpot_s")
        self.ceiling = self.dense_value("ttft_s") / self.value("vision_s")
        around = self.value("session_s") - self.dense_value("session_s")
        self.overhead = (self.value("prune_s") + around) / self.dense_value("ttft_s")

    def value(self, column: str) -> float:
        return float(self.row[column])

    def dense_value(self, column: str) -> float:
        return float(self.dense[column])

    def ratio(self, column: str) -> float:
        return self.value(column) / self.dense_value(column)


def sections(rows: list[dict[str, str]]) -> Iterable[tuple[dict[str, str], list[dict[str, str]]]]:
    """Rows that agree in all settings, with these settings; within them by frames, in the order written."""

    def key(row: dict[str, str]) -> list[str]:
        return [row[name] for name in SETTINGS]

    for values, group in groupby(sorted(rows, key=key), key):
        yield dict(zip(SETTINGS, values, strict=True)), sorted(group, key=lambda row: int(row["frames"]))


def compared(rows: list[dict[str, str]]) -> dict[int, list[Compared]]:
    """By number of frames, the rows that were measured, each beside dense."""
    found: dict[int, list[Compared]] = {}
    for frames, group in groupby(rows, lambda row: int(row["frames"])):
        block = list(group)
        dense = next(row for row in block if row["pruner"] == "dense")
        found[frames] = [Compared(row, dense) for row in block if row["status"] == "ok"]
    return found

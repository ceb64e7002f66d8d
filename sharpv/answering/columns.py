"""The short fields of a file of answers as columns, kept beside it as Parquet, so that nobody parses its lines twice.

The lines stay the truth. `samples.x.parquet` says which bytes it is of: it counts where size and time of change of the
lines are still those, else where the bytes that it is of still have the same hash: then only what was appended is
parsed. In every other case all lines are read again. Deleting it costs time only.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sharpv.files import parsed

WORTH_BYTES = 8 << 20
"""Lines that are parsed in a blink get no columns."""
BATCH = 10_000
HASHED = 1 << 20
RECENT_NS = 2 * 10**9
"""A file that changed as shortly ago may change again without another time of change: then its hash is asked."""
ANSWER = ["row", "seed", "benchmark", "task", "doc_id"]
"""What names one answer: the table row, its repetition, and the question."""
NESTED = {
    "layers": ("visual_rows", "visual_kv", "cosine_visual", "cosine_system", "cosine_instruction"),
    "flops": ("eq5_prefill", "exact_vision", "exact_prefill", "exact_decode"),
    "times_s": ("decode_video", "preprocess", "vision", "prune", "prefill", "first_token", "decode"),
    "memory": ("weights_bytes", "peak_bytes", "above_weights_bytes", "kv_bytes"),
}
TEXTS = (
    *("key", "status", "error", "model", "method", "kind", "video", "row", "benchmark", "task"),
    *("settings", "device", "command"),
)
WHOLE = ("seed", "doc_id", "visual_dense", "visual_kept", "frames", "prompt_tokens", "output_tokens", "decode_errors")
SHARES = ("vr", "vr_requested", "mr", "mr_after_layer", "kv_held", "token_budget")
SHORT = pa.schema(
    [(name, pa.string()) for name in (*TEXTS, "raw", "gold")]
    + [(name, pa.int64()) for name in (*WHOLE, "depth")]
    + [(name, pa.float64()) for name in (*SHARES, "ttft_s", "tpot_s")]
    + [(f"{group}.{name}", pa.float64()) for group in ("flops", "times_s", "memory") for name in NESTED[group]]
)
"""What all tables but the paper's 1, 2 and 4 need of an answer; `depth`: of how many layers it has the visual KV."""
ALWAYS = ("key", "status", "error", "model", "method", "kind", "video", *ANSWER)
GENERATED = (
    *("prompt", "raw", "gold", "visual_dense", "visual_kept", "frames", "grid", "kept_bits", "kept_per_frame"),
    *("vr", "vr_requested", "mr", "mr_after_layer", "kv_held", "token_budget", "prompt_tokens", "output_tokens"),
    *("ttft_s", "tpot_s"),
    *(f"{group}.{name}" for group, names in NESTED.items() for name in names),
)
"""What every answer has, and what every one has that did not fail."""
NEEDED_FAILED, NEEDED = frozenset(ALWAYS), frozenset(ALWAYS + GENERATED)
KINDS = list(zip(SHORT.names, SHORT.types, strict=True))
VERSION = hashlib.sha256(str(SHORT).encode()).hexdigest()


class UnfitError(Exception):
    """A line is whole, but lacks a field or holds what no column can."""


@dataclass(frozen=True)
class Columns:
    """The short fields of the whole lines of a file: `table` in their order, `end` the bytes that they take."""

    table: pa.Table
    end: int


def flat(row: dict[str, Any]) -> dict[str, Any]:
    """A row without nested groups: "times_s.prune"; a group that is null was not measured."""
    found = {name: value for name, value in row.items() if name not in NESTED}
    for group, names in NESTED.items():
        values = row.get(group, {})
        values = dict.fromkeys(names) if values is None else values
        found |= {f"{group}.{name}": value for name, value in values.items()}
    held = found.get("layers.visual_kv")
    return found | {"depth": len(held) if isinstance(held, list) else None}


def columns(path: Path, problem: Callable[[dict], str], fields: Sequence[str] | None = None) -> Columns | None:
    """The short fields (None = all) of a file's whole lines, from its columns where these are of it; else, unless the
    file is small, these are made.

    None where a line lacks a field or holds what no column can, and where the columns cannot be written: then read the
    lines. ValueError for a broken line.
    """
    names, size = None if fields is None else list(fields), path.stat().st_size
    try:
        if size < WORTH_BYTES:
            whole = _Lines(path, problem)
            tables = [pa.Table.from_batches([batch]) for batch in whole.batches()]
            table = pa.concat_tables([SHORT.empty_table(), *tables])
            return Columns(table if names is None else table.select(names), whole.end)
        beside = _beside(path)
        known = _trusted(path, beside)
        if known is None or _goes_on(path, known["size"]):
            known = _write(path, beside, known, problem)
        return Columns(pq.read_table(beside, columns=names, memory_map=True), known["size"])
    except (UnfitError, pa.ArrowException, OverflowError, UnicodeEncodeError, OSError):
        return None


def lack(path: Path) -> bool:
    """Whether a file of lines is large enough for columns and has none that say that they are of all of it."""
    size = path.stat().st_size
    known = _told(_beside(path)) if size >= WORTH_BYTES else None
    return size >= WORTH_BYTES and (known is None or _goes_on(path, known["size"]))


class _Lines:
    """The whole lines of a file behind a place, parsed; `end` and `number`: how far that went."""

    def __init__(self, path: Path, problem: Callable[[dict], str], end: int = 0, number: int = 0):
        self.path, self.problem, self.end, self.number = path, problem, end, number
        self.digest = _hash_of(path, end)

    def batches(self) -> Iterator[pa.RecordBatch]:
        rows: list[dict[str, Any]] = []
        with self.path.open("rb") as file:
            file.seek(self.end)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self.end, self.number = self.end + len(line), self.number + 1
                self.digest.update(line)
                row = flat(parsed(self.path, self.number, line, self.problem))
                if not row.keys() >= (NEEDED_FAILED if row["status"] == "error" else NEEDED):
                    raise UnfitError
                rows.append(row)
                if len(rows) == BATCH:
                    yield _batch(rows)
                    rows.clear()
        yield _batch(rows)


def _batch(rows: list[dict[str, Any]]) -> pa.RecordBatch:
    """Column by column: `RecordBatch.from_pylist` takes seven times as long for the same."""
    return pa.RecordBatch.from_arrays(
        [pa.array([row.get(name) for row in rows], kind) for name, kind in KINDS], schema=SHORT
    )


def _beside(path: Path) -> Path:
    return path.with_suffix(".parquet")


def _goes_on(path: Path, end: int) -> bool:
    """Whether a whole line stands behind this place; a torn one may stay there for ever."""
    with path.open("rb") as file:
        file.seek(end)
        return file.readline().endswith(b"\n")


def _told(beside: Path) -> dict[str, Any] | None:
    """What columns say they are of, None where there are none of this version."""
    try:
        known = json.loads(pq.read_metadata(beside).metadata[b"sharpv"])
        return known if known["version"] == VERSION else None
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError):
        return None


def _trusted(path: Path, beside: Path) -> dict[str, Any] | None:
    """What the columns say they are of, if the lines still have exactly that in front."""
    known = _told(beside)
    stat = path.stat()
    if known is None or stat.st_size < known["size"]:
        return None
    if [stat.st_size, stat.st_mtime_ns] == [known["size"], known["changed"]]:
        return known
    return known if _hash_of(path, known["size"]).hexdigest() == known["hash"] else None


def _hash_of(path: Path, end: int) -> Any:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while end and (block := file.read(min(HASHED, end))):
            digest.update(block)
            end -= len(block)
    return digest


def _write(path: Path, beside: Path, known: dict[str, Any] | None, problem: Callable[[dict], str]) -> dict[str, Any]:
    """Write the columns anew: those that are known, and of the lines behind them; what they are of then."""
    stat = path.stat()
    lines = _Lines(path, problem, known["size"], known["lines"]) if known else _Lines(path, problem)
    partial = beside.with_name(f"{beside.name}.{os.getpid()}.partial")
    try:
        with pq.ParquetWriter(partial, SHORT, compression="zstd") as writer:
            if known:
                with pq.ParquetFile(beside) as former:
                    for batch in former.iter_batches(BATCH):
                        writer.write_batch(batch)
            for batch in lines.batches():
                writer.write_batch(batch)
            settled = lines.end == stat.st_size and time.time_ns() - stat.st_mtime_ns > RECENT_NS
            told = {"version": VERSION, "size": lines.end, "lines": lines.number, "hash": lines.digest.hexdigest()}
            told["changed"] = stat.st_mtime_ns if settled else None
            writer.add_key_value_metadata({"sharpv": json.dumps(told)})
        partial.replace(beside)
    finally:
        partial.unlink(missing_ok=True)
    return told

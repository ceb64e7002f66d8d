"""The run store as pandas frames: `results/runs/<hash>/` with run.json, scores.jsonl and a samples*.jsonl a process."""

import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

SCHEMA = 1
ANSWER = ["row", "seed", "benchmark", "task", "doc_id"]
"""What names one answer: the table row, its repetition, and the question."""
NESTED = {
    "layers": ("visual_rows", "visual_kv", "cosine_visual", "cosine_system", "cosine_instruction"),
    "flops": ("eq5_prefill", "exact_vision", "exact_prefill", "exact_decode"),
    "times_s": ("decode_video", "preprocess", "vision", "prune", "prefill", "first_token", "decode"),
    "memory": ("weights_bytes", "peak_bytes", "above_weights_bytes", "kv_bytes"),
}
ALWAYS = ("key", "status", "error", "model", "method", "kind", "video", *ANSWER)
GENERATED = (
    *("prompt", "raw", "gold", "visual_dense", "visual_kept", "frames", "grid", "kept_bits", "kept_per_frame"),
    *("vr", "vr_requested", "mr", "mr_after_layer", "kv_held", "token_budget", "prompt_tokens", "output_tokens"),
    *("ttft_s", "tpot_s"),
    *(f"{group}.{name}" for group, names in NESTED.items() for name in names),
)
SCORED = ("score", "judge_score", "answered", "parsed", "gold", "video", *ANSWER)


@dataclass(frozen=True)
class Run:
    """A run: `info` is run.json; `samples` one line per answer, nested groups flattened ("times_s.prune", a group
    that is null was not measured), shares and seconds as stored; `scores` one line per scored answer (score 0-1,
    judge_score 0-5 or NaN, and where a judge gave these, offline_score 0-1 without it)."""

    folder: Path
    info: dict
    samples: pd.DataFrame
    scores: pd.DataFrame

    def answers(self) -> pd.DataFrame:
        """Samples with their scores; an error sample stays in, with score 0 and `failed` True.

        ValueError where a sample has no score yet or a score has no sample.
        """
        columns = [*ANSWER, "score", "judge_score", "offline_score", "answered", "parsed"]
        joined = self.samples.merge(self.scores.reindex(columns=columns), on=ANSWER, how="left", indicator=True)
        joined["failed"] = joined["status"] == "error"
        scored = joined["_merge"] == "both"
        if strays := len(self.scores) - scored.sum():
            raise ValueError(
                f"{self.folder}: {strays} scores have no sample; delete scores.jsonl and score the run again"
            )
        if unscored := (~scored & ~joined["failed"]).sum():
            raise ValueError(
                f"{self.folder}: {unscored} samples have no score; start the run again, it will go on there"
            )
        joined.loc[joined["failed"], "score"] = 0.0
        joined.loc[joined["failed"], "answered"] = True
        return joined.drop(columns="_merge").astype({"score": float, "judge_score": float, "answered": bool})


def load_run(folder: Path) -> Run:
    """Read a run folder. An answer stored twice counts once, as its last line has it (a retry after an error).

    ValueError for a folder without run.json, another schema, a broken line (a torn last one is ignored), or a line that
    lacks a field. Where the scores name keys they say which answers the latest table asked for, and in which order of
    rows; the store may hold more (other rows, more questions), which are left out.
    """
    if not (folder / "run.json").is_file():
        raise ValueError(f"{folder} holds no run.json: pass folders of results/runs/")
    info = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    if info["schema"] != SCHEMA:
        raise ValueError(f"{folder} has schema {info['schema']}, this package reads {SCHEMA}: run it again")
    samples = [_flat(row) for row in read_samples(folder)]
    for row in samples:
        _require(folder / "samples*.jsonl", row, ALWAYS if row.get("status") == "error" else ALWAYS + GENERATED)
    scores = read_jsonl(folder / "scores.jsonl")
    for row in scores:
        _require(folder / "scores.jsonl", row, SCORED)
    if scores and all("key" in row for row in scores):
        asked = {row["key"] for row in scores}
        order = {name: place for place, name in enumerate(dict.fromkeys(row["row"] for row in scores))}
        samples = sorted((row for row in samples if row["key"] in asked), key=lambda row: order[row["row"]])
    return Run(folder, info, _frame(samples, ALWAYS + GENERATED), _frame(scores, SCORED))


def read_samples(folder: Path) -> list[dict]:
    """The stored answers of a run folder, one a key, joined from the files of all its processes: an answer before an
    error, else the last line."""
    rows: dict = {}
    for path in sorted(folder.glob("samples*.jsonl")):
        for row in read_jsonl(path):
            _require(path, row, ("key", "status"))
            if row["status"] == "ok" or rows.get(row["key"], row)["status"] != "ok":
                rows.pop(row["key"], None)
                rows[row["key"]] = row
    return list(rows.values())


def read_jsonl(path: Path) -> list[dict]:
    """The objects of a JSON-lines file, oldest first; a missing file is empty. A last line without its newline that
    does not parse was torn by a kill and is left out; any other broken line raises ValueError."""
    if not path.is_file():
        return []
    *lines, last = path.read_bytes().split(b"\n")
    rows = [_parsed(path, number, line) for number, line in enumerate(lines, start=1)]
    if last:
        try:
            rows.append(json.loads(last))
        except ValueError:
            return rows
    return rows


def _parsed(path: Path, number: int, line: bytes) -> dict:
    try:
        return json.loads(line)
    except ValueError as error:
        raise ValueError(
            f"{path} line {number} is broken ({error}): delete this line and start the run again"
        ) from error


def _flat(row: dict) -> dict:
    flat = {name: value for name, value in row.items() if name not in NESTED}
    for group, names in NESTED.items():
        values = row.get(group, {})
        values = dict.fromkeys(names) if values is None else values
        flat |= {f"{group}.{name}": value for name, value in values.items()}
    return flat


def _require(path: Path, row: dict, fields: tuple[str, ...]) -> None:
    missing = [field for field in fields if field not in row]
    if missing:
        raise ValueError(
            f"{path}: the line of doc_id={row.get('doc_id')} row={row.get('row')} lacks {missing}: run it again"
        )


def _frame(rows: list[dict], columns: tuple[str, ...]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=list(dict.fromkeys([*columns, *(name for row in rows for name in row)])))
    return frame.drop_duplicates(ANSWER, keep="last", ignore_index=True)

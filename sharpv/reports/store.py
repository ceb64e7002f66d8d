"""The run store as pandas frames: `results/runs/<hash>/` with run.json, scores.jsonl and a samples*.jsonl a process.

A report reads an experiment's record, `results/experiments/<name>.json`, and of each run folder in it exactly the
answers that were asked for; or run folders as they are.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from sharpv.answering.columns import ALWAYS, ANSWER, GENERATED, NESTED, columns, flat
from sharpv.answering.store import SCHEMA, have_columns, problem
from sharpv.files import each_row, read_jsonl, read_object

__all__ = ["ALWAYS", "ANSWER", "NESTED", "Run", "load_run", "load_runs", "read_info", "read_jsonl", "read_samples"]
SCORED = ("score", "judge_score", "answered", "parsed", "gold", "video", *ANSWER)
INFO = {"schema": int, "model": dict, "status": str, "versions": dict, "hardware": dict, "command": str, "created": str}
HIGHEST = {"score": 1, "judge_score": 5, "offline_score": 1}


@dataclass(frozen=True)
class Run:
    """A run: `info` is run.json, with what the experiment's record says in its place; `samples` one line per answer,
    nested groups flattened ("times_s.prune", a group that is null was not measured), shares and seconds as stored;
    `scores` one line per scored answer (score 0-1, judge_score 0-5 or NaN, and where a judge gave these, offline_score
    0-1 without it)."""

    folder: Path
    info: dict
    samples: pd.DataFrame
    scores: pd.DataFrame

    def answers(self) -> pd.DataFrame:
        """Samples with their scores; an error sample stays in, with score 0 and `failed` True. Where there is a score,
        the right answer is the one that it was made with: a task's rules may have changed since the sample was
        answered.

        ValueError where a sample has no score yet or a score has no sample.
        """
        columns = [*ANSWER, "score", "judge_score", "offline_score", "answered", "parsed", "gold"]
        scores = self.scores.reindex(columns=columns)
        joined = self.samples.merge(scores, on=ANSWER, how="left", indicator=True, suffixes=("_when_answered", ""))
        joined["gold"] = joined["gold"].where(joined["gold"].notna(), joined.pop("gold_when_answered"))
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


def load_runs(sources: Sequence[Path | Run], short: bool = False) -> list[Run]:
    """The runs of experiments' records (*.json) and run folders; a loaded one stays as it is. Records that name the
    same folder make one run. short: without the long fields (prompts, masks, numbers by layer), which takes a fraction
    of time and memory.

    ValueError as of `load_run` and `load_asked`, and for a record that is none.
    """
    loaded = [source for source in sources if isinstance(source, Run)]
    folders, asked = dict[Path, None](), dict[Path, list[dict[str, Any]]]()
    for source in (Path(source) for source in sources if not isinstance(source, Run)):
        if source.suffix != ".json":
            folders[source] = None
            continue
        record = read_object(source)
        if record.get("schema") != SCHEMA or not isinstance(record.get("cells"), list):
            raise ValueError(f"{source} is no record of an experiment of schema {SCHEMA}: run its command again")
        for cell in record["cells"]:
            folder = Path(source.parent, cell["folder"]).resolve()
            folders[folder] = None
            facts = {name: record.get(name) for name in ("command", "limit", "part")}
            asked.setdefault(folder, []).append(cell | facts)
    if short:
        have_columns(folders)
    return loaded + [
        load_asked(folder, asked[folder], short) if folder in asked else load_run(folder, short) for folder in folders
    ]


def load_asked(folder: Path, cells: Sequence[Mapping[str, Any]], short: bool = False) -> Run:
    """Of a run folder the answers that records asked for, in their order of rows, with the scores that these name.

    ValueError where one of them is not there, and where two records want different answers to the same.
    """
    last = cells[-1]
    keys = dict.fromkeys(key for cell in cells for row in cell["asked"] for key in row["keys"])
    found = _samples(folder, set(keys), short).set_index("key", drop=False)
    status = dict(zip(found.index, found["status"], strict=True))
    scored = {(row["key"], row.get("scoring")): row for row in _scores(folder)}
    scores = {key: line for key in keys if (line := scored.get((key, last["scoring"])))}
    unscored = [key for key in keys if key not in scores and status.get(key) != "error"]
    if missing := sorted({*(keys.keys() - status.keys()), *unscored}):
        raise ValueError(
            f"{folder} lacks {len(missing)} of {len(keys)} answers or scores that this report is about, first "
            f"{missing[0][:16]}: run its command again: {last['command']}"
        )
    samples = _unique(found.loc[list(keys)])
    scored_samples = _frame([scores[key] for key in keys if key in scores], SCORED)
    if len(samples) != len(keys):
        raise ValueError(
            f"the records name {len(keys)} answers in {folder}, of which {len(keys) - len(samples)} are to the same "
            "questions by the same rows: report them one by one"
        )
    told = {name: last[name] for name in last if name not in ("asked", "folder", "errors")}
    told["rows"] = {name: stages for cell in cells for name, stages in cell["rows"].items()}
    told["budgets"] = {name: budget for cell in cells for name, budget in cell.get("budgets", {}).items()}
    told["status"] = "incomplete" if any(cell["errors"] for cell in cells) else "complete"
    return Run(folder, read_info(folder) | told, samples, scored_samples)


def load_run(folder: Path, short: bool = False) -> Run:
    """Read a run folder as it is: of each row what was scored last. An answer stored twice counts once, as its last
    line has it (a retry after an error).

    ValueError for a folder without run.json, another schema, a broken line (a torn last one is ignored), or a line that
    lacks a field. Where the scores name keys, rows stand in their order, and answers without a score are left out.
    """
    info, scores = read_info(folder), _scores(folder)
    keyed = bool(scores) and all("key" in row for row in scores)
    samples = _samples(folder, {row["key"] for row in scores} if keyed else None, short)
    if keyed:
        place = {row["key"]: number for number, row in enumerate(scores)}
        named = samples["settings"].astype(object) if "settings" in samples else pd.Series(None, samples.index, object)
        settings = dict(zip(samples["key"], named.where(named.notna(), None), strict=True))
        newest = {(row["row"], row["seed"]): settings.get(row["key"]) for row in scores}
        scores = [row for row in scores if settings.get(row["key"]) == newest[row["row"], row["seed"]]]
        order = {name: number for number, name in enumerate(dict.fromkeys(row["row"] for row in scores))}
        samples = samples[samples["key"].isin({row["key"] for row in scores})]
        places = np.array([[place[key], order[row]] for key, row in zip(samples["key"], samples["row"], strict=True)])
        samples = samples.iloc[np.lexsort(places.reshape(-1, 2).T)]
    return Run(folder, info, _unique(samples), _frame(scores, SCORED))


def read_info(folder: Path) -> dict[str, Any]:
    """run.json of a run folder; ValueError naming the file where it is missing, broken, or lacks what all need."""
    path = folder / "run.json"
    if not path.is_file():
        raise ValueError(f"{folder} holds no run.json: pass folders of results/runs/ or files of results/experiments/")
    info = read_object(path)
    if info.get("schema", SCHEMA) != SCHEMA:
        raise ValueError(f"{path} has schema {info['schema']}, this package reads {SCHEMA}: move its folder away")
    if wrong := [name for name, kind in INFO.items() if not isinstance(info.get(name), kind)]:
        raise ValueError(f"{path} lacks {wrong} or has no sense there: delete it and start the run again")
    return info


def read_samples(folder: Path, fields: tuple[str, ...] | None = None) -> list[dict]:
    """The stored answers of a run folder, one a key, joined from the files of all its processes: an answer before an
    error, else the last line; of each these fields (None = all). ValueError naming file and line for a broken one."""

    def kept(row: dict) -> dict:
        return row if fields is None else {name: row[name] for name in fields if name in row}

    return _joined(folder, problem, kept)


def _joined(folder: Path, wrong: Callable[[dict], str], kept: Callable[[dict], dict]) -> list[dict]:
    """What is kept of each answer, nothing of one that is kept as an empty dict."""
    rows: dict = {}
    for path in sorted(folder.glob("samples*.jsonl")):
        for row in each_row(path, wrong):
            if row["status"] == "ok" or rows.get(row["key"], row)["status"] != "ok":
                rows.pop(row["key"], None)
                if part := kept(row):
                    rows[row["key"]] = part
    return list(rows.values())


def read_columns(folder: Path, fields: Sequence[str] | None = None) -> pd.DataFrame | None:
    """The short fields of a folder's answers, chosen as by `read_samples`; None where only their lines can tell."""
    tables = []
    names = None if fields is None else list(dict.fromkeys(["key", "status", *fields]))
    for path in sorted(folder.glob("samples*.jsonl")):
        found = columns(path, problem, names)
        if found is None or _more(path, found.end):
            return None
        tables.append(found.table)
    if not tables:
        return None
    frame = pa.concat_tables(tables).to_pandas()
    # An answer before an error, else the last line.
    ranked = frame[["key"]].assign(ok=frame["status"] == "ok").sort_values("ok", kind="stable")
    return frame.loc[ranked.drop_duplicates("key", keep="last").index.sort_values()]


def _more(path: Path, end: int) -> bool:
    """Whether a last line without its end is whole."""
    with path.open("rb") as file:
        file.seek(end)
        rest = file.readline()
    try:
        return bool(rest) and bool(json.loads(rest))
    except ValueError:
        return False


def _samples(folder: Path, keys: set[str] | None, short: bool) -> pd.DataFrame:
    """The answers of these keys (None = all), flat."""

    def asked(row: dict) -> bool:
        return keys is None or row["key"] in keys

    def wrong(row: dict) -> str:
        fields = ALWAYS if row.get("status") == "error" else ALWAYS + GENERATED
        return problem(row) or (_lacking(flat(row), fields) if asked(row) else "")

    if short and (found := read_columns(folder)) is not None:
        return found if keys is None else found[found["key"].isin(keys)]
    return _table(_joined(folder, wrong, lambda row: flat(row) if asked(row) else {}), ALWAYS + GENERATED)


def _scores(folder: Path) -> list[dict]:
    return read_jsonl(folder / "scores.jsonl", _wrong_score)


def _wrong_score(row: dict) -> str:
    if lacking := _lacking(row, SCORED):
        return lacking
    for name, highest in HIGHEST.items():
        value = row.get(name)
        if not (name != "score" and value is None) and not (isinstance(value, int | float) and 0 <= value <= highest):
            return f"{name}={value!r} is not in 0 to {highest}"
    return ""


def _lacking(row: dict, fields: tuple[str, ...]) -> str:
    missing = [field for field in fields if field not in row]
    return f"doc_id={row.get('doc_id')} row={row.get('row')} lacks {missing}" if missing else ""


def _table(rows: list[dict], columns: tuple[str, ...]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(dict.fromkeys([*columns, *(name for row in rows for name in row)])))


def _unique(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.drop_duplicates(ANSWER, keep="last", ignore_index=True)


def _frame(rows: list[dict], columns: tuple[str, ...]) -> pd.DataFrame:
    return _unique(_table(rows, columns))

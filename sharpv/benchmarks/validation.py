"""Whether annotations can be asked and scored: each file and each row is looked at once, before weights load."""

import functools
import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from sharpv.benchmarks import long_rows
from sharpv.benchmarks.submission import UNLABELLED

Doc = dict[str, Any]
VIDEOS = ("video", "videoID", "video_name", "video_path", "video_idx")
"""Columns that name a row's video."""
ENDINGS = (".json", ".jsonl", ".parquet")
POINTER = b"version https://git-lfs.github.com/spec/"
FALLBACKS = {"doc_to_text": "", "doc_to_target": "", "doc_to_visual": []}


def problem(doc: Doc) -> str | None:
    """Why a question cannot be asked or scored, with the field and its value; None where it can.

    Its columns say what it is: `correct_choice` LongVideoBench, `video_idx` EgoSchema, `candidates` MLVU where there is
    a `video_name` and MVBench where not, `options` VideoMME, `a0` NExT-QA, else an open answer. The right answer must
    be one of the options and stand there once; two wrong options may be alike, since an answer that gives their text
    names neither.
    """
    if not _is_text(doc.get("question")):
        return f"question {doc.get('question')!r} is no text"
    column = next((column for column in VIDEOS if column in doc), "video")
    if not _is_text(doc.get(column)) and not _is_number(doc.get(column)):
        return f"{column} {doc.get(column)!r} names no video"
    if "correct_choice" in doc:
        return _long(doc, long_rows.longvideobench_options, long_rows.longvideobench_target)
    if "video_idx" in doc:
        return _long(doc, long_rows.egoschema_options, long_rows.egoschema_target)
    if "candidates" in doc and "video_name" in doc:
        return _long(doc, long_rows.mlvu_options, long_rows.mlvu_target)
    if "candidates" in doc:
        return _choices(doc["candidates"], "candidates") or _mvbench(doc)
    if "options" in doc:
        return _choices(doc["options"], "options") or _videomme(doc)
    if "a0" in doc:
        options = [doc.get(f"a{number}", "") for number in range(5)]
        return _choices(options, "a0 to a4") or _nextqa(doc["answer"], options)
    if not _is_text(doc.get("answer")) or not re.search(r"\w", doc["answer"]):
        return f"answer {doc.get('answer')!r} holds no word"
    return None


def _choices(options: Any, field: str) -> str | None:
    if not isinstance(options, list | tuple) or len(options) < 2:
        return f"{field} {options!r} are no options: two or more are needed"
    if len(options) > len(ascii_uppercase):
        return f"{field} are {len(options)} options; there are letters for {len(ascii_uppercase)}"
    wrong = next((number for number, option in enumerate(options) if not _is_text(option)), None)
    return None if wrong is None else f"option {ascii_uppercase[wrong]} of {field} is {options[wrong]!r}, no text"


def _long(doc: Doc, options_of: Callable[[Doc], list[str]], target_of: Callable[[Doc], str]) -> str | None:
    try:
        options, target = options_of(doc), target_of(doc)
    except (ValueError, KeyError, TypeError) as error:
        return f"{type(error).__name__}: {error}" if not isinstance(error, ValueError) else str(error)
    right = None if target == UNLABELLED else options[ascii_uppercase.index(target)]
    return _choices(options, "options") or (_once(right, options) if right else None)


def _mvbench(doc: Doc) -> str | None:
    answer, options = doc.get("answer", ""), doc["candidates"]
    if answer not in options:
        return f"answer {answer!r} is none of its candidates {list(options)}"
    return _once(answer, options)


def _videomme(doc: Doc) -> str | None:
    answer, options = doc.get("answer"), doc["options"]
    letters = ascii_uppercase[: len(options)]
    for letter, option in zip(letters, options, strict=True):
        if not re.match(rf"{letter}\.\s*\S", option):
            return f"option {option!r} of options does not begin with '{letter}. '"
    if not isinstance(answer, str) or len(answer) != 1 or answer not in letters:
        return f"answer {answer!r} is none of the letters {letters}"
    texts = [option[2:].strip() for option in options]
    return _once(texts[letters.index(answer)], texts)


def _nextqa(answer: Any, options: list[str]) -> str | None:
    if not _is_number(answer) or answer not in range(len(options)):
        return f"answer {answer!r} is none of the numbers 0 to {len(options) - 1}"
    return _once(options[answer], options)


def _once(right: str, options: list[str]) -> str | None:
    same = [option.strip() for option in options].count(right.strip())
    return None if same == 1 else f"the right option {right!r} stands {same} times"


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def guarded(config: dict[str, Any]) -> dict[str, Any]:
    """A task's configuration whose functions pass over rows with a problem: lmms-eval scores all rows or none."""
    found = dict(config)
    for name, fallback in FALLBACKS.items():
        if callable(config.get(name)):
            found[name] = _passing_over(config[name], partial(_fallback, fallback))
    if callable(config.get("process_results")):
        found["process_results"] = _passing_over(config["process_results"], _unscored)
    return found


def _fallback(value: Any, doc: Doc) -> Any:
    return value


def _passing_over(function: Callable, instead: Callable[[Doc], Any]) -> Callable:
    @functools.wraps(function)
    def passing_over(doc: Doc, *others: Any, **named: Any) -> Any:
        return instead(doc) if problem(doc) else function(doc, *others, **named)

    return passing_over


def _unscored(doc: Doc) -> dict[str, Any]:
    video = next((str(doc[column]) for column in VIDEOS if column in doc), "")
    item = {"score": 0.0, "judge_score": 0.0, "video": video, "answered": False, "parsed": ""}
    return {"accuracy": item, "judge_score": item}


def require_readable(name: str, config: dict[str, Any]) -> None:
    """ValueError naming the first of a task's annotation files that is absent, empty, a pointer or broken."""
    for file in _files(config):
        if (reason := unreadable(file)) is not None:
            raise ValueError(f"{name}: {file} {reason}")


def _files(config: dict[str, Any]) -> list[Path]:
    """Those that the configuration names, else those of the snapshot that its `dataset_name` stands in the path of."""
    named = (config.get("dataset_kwargs") or {}).get("data_files")
    if named is not None:
        return [Path(file) for file in _flat(named)]
    folder = Path(config.get("dataset_path") or "")
    if not folder.is_dir():
        return []
    files = sorted(path for path in folder.rglob("*") if path.suffix in ENDINGS)
    wanted = config.get("dataset_name")
    of_name = [file for file in files if wanted in (file.stem, *file.relative_to(folder).parts)]
    return of_name or [file for file in files if file.suffix == ".parquet"]


def _flat(value: Any) -> list[str]:
    if isinstance(value, dict):
        value = list(value.values())
    return [file for part in value for file in _flat(part)] if isinstance(value, list) else [value]


def unreadable(file: Path) -> str | None:
    """What is wrong with an annotation file, None where it is whole."""
    if not file.is_file():
        return "does not exist"
    with file.open("rb") as content:
        if content.read(len(POINTER)) == POINTER:
            return "is a git-lfs pointer, not the file itself: download it anew"
    try:
        if file.suffix == ".parquet":
            import pyarrow.parquet

            return None if pyarrow.parquet.read_metadata(file).num_rows else "holds no question"
        return _unreadable_json(file.read_bytes(), lines=file.suffix == ".jsonl")
    # pyarrow's errors have OSError and ValueError among their bases.
    except (OSError, ValueError) as error:
        return f"is broken ({error}): get it anew"


def _unreadable_json(content: bytes, lines: bool) -> str | None:
    if not content.strip():
        return "is empty"
    if not lines:
        try:
            return None if json.loads(content) else "holds no question"
        except ValueError as error:
            if "Extra data" not in str(error):
                raise
    for number, line in enumerate(content.splitlines(), start=1):
        try:
            if line.strip() and not isinstance(json.loads(line), dict):
                return f"line {number} is no question: {line[:60]!r}"
        except ValueError as error:
            return f"line {number} is broken ({error})"
    return None

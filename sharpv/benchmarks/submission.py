"""Answers for a benchmark's server, as a file: nothing here sends anything."""

import json
from pathlib import Path
from string import ascii_uppercase
from typing import Any

UNLABELLED = "not public"
"""The gold answer of a question whose right answer is not released: asked, and in no mean."""


def egoschema(scores: list[dict[str, Any]]) -> dict[str, Any]:
    """EgoSchema's form: the number of the option by clip; clips without a letter are left out and count as missing."""
    return {line["video"]: ascii_uppercase.index(line["parsed"]) for line in scores if line["parsed"]}


def answers(scores: list[dict[str, Any]]) -> dict[str, Any]:
    """What was read from each answer, by task and number of the question."""
    return {f"{line['task']}/{line['doc_id']}": line["parsed"] for line in scores}


FORMS = {"egoschema": egoschema, "answers": answers}


def write(form: str, scores: list[dict[str, Any]], output: Path, table: str, benchmark: str) -> list[Path]:
    """Write results/<table>_<benchmark>_<row>.json, a file a row and seed. ValueError for an unknown form."""
    if form not in FORMS:
        raise ValueError(f"submission: {form!r} is no form of a submission; there are: {', '.join(FORMS)}")
    written = []
    for row, seed in dict.fromkeys((line["row"], line["seed"]) for line in scores):
        of_row = [line for line in scores if (line["row"], line["seed"]) == (row, seed)]
        path = output / f"{table}_{benchmark}_{row}{f'_seed{seed}' if seed else ''}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(FORMS[form](of_row), indent=1), encoding="utf-8")
        written.append(path)
    return written

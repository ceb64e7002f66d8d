"""What tables tell of how they were made: settings, scorers of open answers, and rows in the command's order."""

import json

import pytest
from test_reports_table3 import DAGGER, DENSE, FASTV, PAPER_CSV, TINY, write_run, wrong

from sharpv.reports.store import read_jsonl
from sharpv.reports.tables.table3 import write_table3


def scored_by(what):
    return {"benchmark": "tiny_actnetqa", "scored_by": what}


FEW, MANY = wrong(3, 2, 3, 2, 4), wrong(9, 4, 6, 5, 10)


def test_the_settings_of_each_row_and_what_scored_open_answers_are_told(tmp_path):
    rows = {"dense": {"visual": None, "memory": None}, "fastv": {"visual": None, "memory": "FastV(layer=3)"}}
    facts = scored_by("the judge J at here, prompt 1") | {"rows": rows}
    folder = write_run(tmp_path / "run", [(DENSE, FEW), (FASTV, MANY)], facts=facts)
    write_table3([folder], tmp_path, PAPER_CSV, TINY)
    for text in (
        (tmp_path / "table3.md").read_text(encoding="utf-8"),
        (tmp_path / "table3.tex").read_text(encoding="utf-8"),
    ):
        assert "tiny_actnetqa: answers scored by the judge J at here, prompt 1." in text.replace("\\_", "_")
        assert "FastV(layer=3)" in text
    assert "MIXED" not in (tmp_path / "table3.md").read_text(encoding="utf-8")


def test_one_benchmark_scored_in_two_ways_is_shouted(tmp_path):
    one = write_run(tmp_path / "1", [(DENSE, FEW)], facts=scored_by("exact match"))
    two = write_run(tmp_path / "2", [(FASTV, MANY)], facts=scored_by("the judge J"))
    write_table3([one, two], tmp_path, PAPER_CSV, TINY)
    assert "MIXED scores of tiny_actnetqa: by exact match and the judge J" in (tmp_path / "table3.md").read_text(
        encoding="utf-8"
    )


def test_the_offline_accuracy_stands_beside_a_judges(tmp_path):
    folder = write_run(tmp_path / "judged", [(DENSE, FEW)])
    lines = read_jsonl(folder / "scores.jsonl")
    judged = [line for line in lines if line["benchmark"] == "tiny_actnetqa"]
    for number, line in enumerate(judged[:-10]):
        line["offline_score"] = float(number < 10)
    (folder / "scores.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    table = write_table3([folder], tmp_path, PAPER_CSV, TINY)
    assert table["actnetqa_offline"].tolist() == [pytest.approx(100 * 10 / len(judged))]
    assert "ActNet offline" in (tmp_path / "table3.md").read_text(encoding="utf-8")
    write_table3([write_run(tmp_path / "offline", [(DENSE, FEW)])], tmp_path, PAPER_CSV, TINY)
    assert "ActNet offline" not in (tmp_path / "table3.md").read_text(encoding="utf-8")


def test_rows_stand_as_the_command_had_them_whatever_was_answered_first(tmp_path):
    stride = DAGGER | {"row": "uniform", "method": "Uniform stride"}
    folder = write_run(tmp_path / "run", [(DENSE, FEW), (stride, MANY), (DAGGER, MANY)])
    for name in ("samples.jsonl", "scores.jsonl"):
        lines = read_jsonl(folder / name)
        lines = [line | {"key": f"{line['row']} {line['task']} {line['doc_id']}"} for line in lines]
        later_first = lines[::-1] if name == "samples.jsonl" else lines
        (folder / name).write_text("".join(json.dumps(line) + "\n" for line in later_first), encoding="utf-8")
    assert write_table3([folder], tmp_path, PAPER_CSV, TINY)["row"].tolist() == ["dense", "uniform", "random_frame"]

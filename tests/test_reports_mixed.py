"""What a table says above itself where its rows were not answered alike."""

import json

from test_reports_table3 import DENSE, FASTV, PAPER_CSV, SHARPV, TINY, full_run, write_run

from sharpv.reports.store import read_jsonl
from sharpv.reports.tables.table3 import write_table3


def test_answers_of_different_devices_in_one_run_are_told(tmp_path):
    run = full_run(tmp_path / "run")
    lines = read_jsonl(run / "samples.jsonl")
    devices = ["one with 1 threads" if number % 2 else "one with 2 threads" for number in range(len(lines))]
    marked = [json.dumps(line | {"device": device}) for line, device in zip(lines, devices, strict=True)]
    (run / "samples.jsonl").write_text("\n".join(marked) + "\n", encoding="utf-8")
    write_table3([run], tmp_path, PAPER_CSV, TINY)
    assert "MIXED devices of Tiny LLaVA-OV: answers come from one with 1 threads and one with 2" in (
        tmp_path / "table3.md"
    ).read_text(encoding="utf-8")


def test_rows_that_were_not_timed_with_dense_are_told(tmp_path):
    run = write_run(tmp_path / "run", [(DENSE, lambda _: True), (SHARPV, lambda _: True), (FASTV, lambda _: True)])
    lines = read_jsonl(run / "samples.jsonl")
    for later, told in (("nobody", False), ("sharpv_adaptive", True)):
        given = [line | {"command": "b" if line["row"] == later else "a"} for line in lines]
        (run / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in given), encoding="utf-8")
        write_table3([run], tmp_path, PAPER_CSV, TINY)
        printed = (tmp_path / "table3.md").read_text(encoding="utf-8")
        found = "MIXED times of Tiny LLaVA-OV: SharpV (Adaptive) (100%) answered by another command" in printed
        assert found == told


def test_a_latex_table_has_its_own_label_and_no_word_of_columns_that_it_lacks(tmp_path):
    write_table3([full_run(tmp_path / "run")], tmp_path, PAPER_CSV, TINY, "mine")
    printed = (tmp_path / "mine.tex").read_text(encoding="utf-8")
    assert r"\label{tab:mine}" in printed
    assert "McNemar" in (tmp_path / "mine.md").read_text(encoding="utf-8")
    assert "McNemar" not in printed

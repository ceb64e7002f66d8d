"""The command line of the reports: which runs it takes by itself, what it writes, how it refuses."""

import json
from pathlib import Path

import pytest
from report_runs import COLUMNS, DENSE, FASTV, SHARPV, first_wrong, table4_rows, write_record, write_run

from sharpv.reports.__main__ import main
from sharpv.reports.runs import paper_columns, record_of
from sharpv.reports.store import load_run
from sharpv.reports.write import write_report

PAPER = Path(__file__).parents[1] / "results" / "paper"
PAIR = [(DENSE, first_wrong(1)), (FASTV, first_wrong(3))]


def test_no_record_is_refused_with_the_way_out(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("SHARPV_RESULTS", str(tmp_path))
    assert main(["figures"]) == 2
    assert "none was run here; `make table3` makes table3" in capsys.readouterr().err
    write_record(tmp_path / "experiments" / "mine.json", {write_run(tmp_path / "runs" / "a", PAIR): {}})
    with pytest.raises(ValueError, match=r"no record of an experiment 'table3', .*there are: mine"):
        record_of("table3")
    assert record_of("mine") == tmp_path / "experiments" / "mine.json"


def test_columns_follow_from_the_benchmarks_and_unknown_ones_are_refused(tmp_path):
    run = load_run(write_run(tmp_path / "a", PAIR))
    assert paper_columns([run]) == COLUMNS
    strange = load_run(write_run(tmp_path / "b", PAIR, questions=[("mine", "mine", 0, "v")]))
    with pytest.raises(ValueError, match="configs/benchmark"):
        paper_columns([strange])


@pytest.mark.parametrize("name", ["table1", "table2", "table3", "table4"])
def test_each_table_is_written_from_a_named_run(name, tmp_path, capsys):
    run = write_run(tmp_path / "run", [*table4_rows(), (SHARPV, first_wrong(2))])
    assert main([name, str(run), "--output", str(tmp_path)]) == 0
    assert f"# Table {name[-1]}" in capsys.readouterr().out
    assert {path.name for path in tmp_path.glob("last_*")} == {f"last_{name}.{end}" for end in ("md", "csv", "tex")}
    assert main([name, str(run), "--output", str(tmp_path), "--name", "mine"]) == 0
    assert len(list(tmp_path.glob("mine.*"))) == 3


def test_a_report_of_another_name_is_a_table_like_table_3_in_its_folder(tmp_path):
    run = write_run(tmp_path / "run", PAIR)
    write_report("mine/floor", [run], tmp_path, PAPER, COLUMNS, "What mine can tell apart")
    assert (tmp_path / "mine" / "floor.md").read_text(encoding="utf-8").startswith("# What mine can tell apart")


def test_figure_5_has_its_picture_beside_the_table(tmp_path):
    rows = [(DENSE, first_wrong(1))]
    for value in (0.0, 0.2):
        row = {"row": f"m{value}", "method": f"SharpV (M = {value})", "kind": "method", "kept": 12}
        rows.append((row, first_wrong(2)))
    table = write_report("fig5", [write_run(tmp_path / "run", rows)], tmp_path, PAPER, COLUMNS)
    assert len(table) == 3
    assert {path.name for path in tmp_path.glob("fig5.*")} == {
        f"fig5.{end}" for end in ("md", "csv", "tex", "svg", "png")
    }


def test_a_question_that_is_no_task_and_number_is_refused(tmp_path, capsys):
    run = write_run(tmp_path / "run", PAIR)
    assert main(["figures", str(run), "--output", str(tmp_path), "--question", "colour"]) == 2
    assert "must be TASK/NUMBER" in capsys.readouterr().err


def test_the_audit_is_written_where_asked(tmp_path, capsys):
    assert main(["audit", "--output", str(tmp_path / "audit.md")]) == 0
    assert "findings in" in capsys.readouterr().out
    assert (tmp_path / "audit.md").exists()


def test_an_unfinished_store_is_refused_by_message(tmp_path, capsys):
    run = write_run(tmp_path / "run", PAIR)
    info = json.loads((run / "run.json").read_text(encoding="utf-8")) | {"schema": 99}
    (run / "run.json").write_text(json.dumps(info), encoding="utf-8")
    assert main(["table3", str(run), "--output", str(tmp_path)]) == 2
    assert "schema 99" in capsys.readouterr().err

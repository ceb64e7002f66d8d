"""The command line of the reports: which runs it takes by itself, what it writes, how it refuses."""

import json
from pathlib import Path

import pytest
from report_runs import COLUMNS, DENSE, FASTV, QUESTIONS, SHARPV, first_wrong, table4_rows, write_run

from sharpv.reports.__main__ import main
from sharpv.reports.runs import newest_runs, paper_columns
from sharpv.reports.store import load_run
from sharpv.reports.write import write_report

PAPER = Path(__file__).parents[1] / "results" / "paper"
PAIR = [(DENSE, first_wrong(1)), (FASTV, first_wrong(3))]
FEW = QUESTIONS[:6]


def test_the_newest_complete_experiment_with_several_rows_is_taken(tmp_path):
    write_run(tmp_path / "old", PAIR, questions=FEW, created="2026-01-01")
    newest = write_run(tmp_path / "new", PAIR, questions=FEW, created="2026-03-01")
    write_run(tmp_path / "one_row", PAIR[:1], questions=FEW, created="2026-04-01")
    write_run(tmp_path / "unfinished", PAIR, questions=FEW, created="2026-05-01", status="incomplete")
    assert newest_runs(tmp_path) == [newest]


def test_the_cells_of_one_experiment_belong_together_and_other_commands_do_not(tmp_path):
    first = write_run(tmp_path / "a", PAIR, questions=FEW, created="2026-03-01", benchmark="mvbench")
    second = write_run(tmp_path / "b", PAIR, questions=FEW, created="2026-03-02", benchmark="videomme", git="next")
    write_run(tmp_path / "c", PAIR, questions=FEW, created="2026-02-01", benchmark="mvbench")
    write_run(tmp_path / "d", PAIR, questions=FEW, created="2026-03-01", benchmark="nextqa", command="python run.py b")
    assert newest_runs(tmp_path) == [first, second]


def test_no_run_is_refused_with_the_way_out(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("SHARPV_RESULTS", str(tmp_path))
    assert main(["figures"]) == 2
    assert "run `make table3` first" in capsys.readouterr().err
    with pytest.raises(ValueError, match="0 runs"):
        newest_runs(tmp_path)


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
    assert {path.name for path in tmp_path.glob(f"{name}.*")} == {f"{name}.md", f"{name}.csv", f"{name}.tex"}


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

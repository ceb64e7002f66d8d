"""Columns beside the lines: the same answers, and never trusted for lines that they are not of."""

import json
import os

import pandas as pd
import pytest
from report_runs import COLUMNS, DENSE, FASTV, first_wrong, write_run

from sharpv.answering import columns as columns_of
from sharpv.answering.store import RowStore, have_columns, problem
from sharpv.paths import REPOSITORY
from sharpv.reports.store import load_run, load_runs, read_columns
from sharpv.reports.write import write_report


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr(columns_of, "WORTH_BYTES", 0)
    return write_run(tmp_path / "run", [(DENSE, first_wrong(1)), (FASTV, first_wrong(3))])


def edit(path, number, **changes):
    """Change fields of a line in place, its file's time of change kept."""
    stat, lines = path.stat(), path.read_text(encoding="utf-8").splitlines()
    lines[number] = json.dumps(json.loads(lines[number]) | changes)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_a_table_from_columns_is_that_from_lines(run, tmp_path, monkeypatch):
    paper = REPOSITORY / "results" / "paper"
    write_report("table3", [run], tmp_path / "made", paper, COLUMNS)
    assert list(run.glob("*.parquet"))
    write_report("table3", [run], tmp_path / "there", paper, COLUMNS)
    write_report("table3", [load_run(run)], tmp_path / "lines", paper, COLUMNS)
    for name in ("table3.csv", "table3.md", "table3.tex"):
        texts = {(tmp_path / way / name).read_text(encoding="utf-8") for way in ("made", "there", "lines")}
        assert len(texts) == 1


def test_columns_of_several_large_files_are_made_side_by_side_and_a_broken_file_is_left_to_its_reader(tmp_path):
    runs = [write_run(tmp_path / name, [(DENSE, first_wrong(1))]) for name in ("one", "two", "broken")]
    for run in runs:
        edit(run / "samples.jsonl", 0, prompt="long " * (columns_of.WORTH_BYTES // 4))
    (runs[2] / "samples.jsonl").write_bytes((runs[2] / "samples.jsonl").read_bytes() + b"{broken}\n")
    have_columns(runs)
    assert [columns_of.lack(run / "samples.jsonl") for run in runs] == [False, False, True]
    made = [run / "samples.parquet" for run in runs[:2]]
    stamps = [path.stat().st_mtime_ns for path in made]
    assert [len(read_columns(run)) for run in runs[:2]] == [len(load_run(run).samples) for run in runs[:2]]
    assert [path.stat().st_mtime_ns for path in made] == stamps, "they were made anew"
    with pytest.raises(ValueError, match="is broken"):
        load_runs(runs, short=True)


def test_columns_of_lines_that_a_hand_changed_are_made_anew(run):
    path = run / "samples.jsonl"
    before = read_columns(run)
    edit(path, 0, raw="something else")
    after = read_columns(run)
    assert before["raw"].iloc[0] != after["raw"].iloc[0] == "something else"


def test_only_appended_lines_are_parsed_and_a_torn_one_waits(run):
    path = run / "samples.jsonl"
    lines = len(read_columns(run))
    row = json.loads(path.read_bytes().splitlines()[0]) | {"key": "new", "doc_id": 999}
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n" + json.dumps(row)[:50])
    parsed = []
    found = columns_of.columns(path, lambda one: parsed.append(one["key"]) or problem(one))
    assert parsed == ["new"]
    assert found.table.num_rows == lines + 1
    assert found.end == path.stat().st_size - 50
    assert not columns_of.lack(path), "a torn line may stay for ever"
    stamp = path.with_suffix(".parquet").stat().st_mtime_ns
    assert columns_of.columns(path, problem).end == found.end
    assert path.with_suffix(".parquet").stat().st_mtime_ns == stamp


def test_a_cut_file_and_damaged_columns_are_read_from_their_lines(run):
    path = run / "samples.jsonl"
    whole = read_columns(run)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    assert len(read_columns(run)) == len(whole) - 1
    path.with_suffix(".parquet").write_bytes(b"PAR1 nonsense")
    pd.testing.assert_frame_equal(read_columns(run), whole.iloc[:-1])


def test_a_store_with_an_answer_that_no_column_can_hold_opens_from_its_lines(run):
    half_a_pair = "\ud83d"
    edit(run / "samples.jsonl", 0, raw=half_a_pair)
    assert read_columns(run) is None
    assert half_a_pair in {row.get("raw") for row in RowStore(run).rows.values()}


def test_a_store_opened_from_columns_holds_what_it_holds_from_lines(run, monkeypatch):
    first, again = RowStore(run).rows, RowStore(run).rows
    monkeypatch.setattr(columns_of, "WORTH_BYTES", 1 << 60)
    monkeypatch.setattr("sharpv.answering.store.columns", lambda *_: None)
    lines = {
        key: {name: value for name, value in row.items() if value is not None or name == "error"}
        for key, row in RowStore(run).rows.items()
    }
    assert first == again == lines

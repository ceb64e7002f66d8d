"""A store that a hand or a disk has damaged is told by file and line, and never counted as it stands."""

import json
import os
import resource

import pytest
from hydra import compose, initialize_config_dir
from report_runs import COLUMNS, DENSE, FASTV, first_wrong, write_record, write_run

from sharpv import files
from sharpv.answering.store import RowStore
from sharpv.commands.status import status
from sharpv.configuration import configure
from sharpv.files import append_rows, read_jsonl, write_whole
from sharpv.paths import REPOSITORY
from sharpv.reports.__main__ import main
from sharpv.reports.store import load_run, load_runs
from sharpv.reports.write import write_report

PAPER = REPOSITORY / "results" / "paper"


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "runs" / "run", [(DENSE, first_wrong(1)), (FASTV, first_wrong(3))])


def change(path, number, edit):
    """Replace line `number`, from 1, of a file: by a text, or by what `edit` makes of its object."""
    lines = path.read_text(encoding="utf-8").splitlines()
    lines[number - 1] = edit if isinstance(edit, str) else json.dumps(edit(json.loads(lines[number - 1])))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.mark.parametrize(
    ("file", "edit", "told"),
    [
        ("samples.jsonl", "null", "is no JSON object"),
        ("samples.jsonl", "[1]", "is no JSON object"),
        ("samples.jsonl", "", "is broken"),
        ("samples.jsonl", lambda row: row | {"schema": 99}, "has schema 99, this package reads 1"),
        ("samples.jsonl", lambda row: row | {"vr": 7}, "vr=7 is no share"),
        ("samples.jsonl", lambda row: row | {"mr": "all"}, "mr='all' is no share"),
        ("samples.jsonl", lambda row: row | {"vr": float("nan")}, "JSON knows no NaN"),
        ("samples.jsonl", lambda row: {"status": "ok"}, r"lacks \['key'\]"),
        ("samples.jsonl", lambda row: {k: v for k, v in row.items() if k != "grid"}, r"lacks \['grid'\]"),
        ("scores.jsonl", "null", "is no JSON object"),
        ("scores.jsonl", lambda row: row | {"score": 5.0}, "score=5.0 is not in 0 to 1"),
        ("scores.jsonl", lambda row: row | {"score": None}, "score=None is not in 0 to 1"),
        ("scores.jsonl", lambda row: row | {"judge_score": 99}, "judge_score=99 is not in 0 to 5"),
        ("scores.jsonl", lambda row: {k: v for k, v in row.items() if k != "parsed"}, r"lacks \['parsed'\]"),
    ],
)
def test_a_line_that_is_none_is_told_by_file_and_line(run, tmp_path, file, edit, told, capsys):
    record = write_record(tmp_path / "record.json", {run: {}})
    change(run / file, 5, edit)
    for source in (run, record):
        with pytest.raises(ValueError, match=rf"{file} line 5: .*{told}.*; delete this line and start the run again"):
            load_runs([source])
    assert main(["table3", str(run), "--output", str(tmp_path)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not list(tmp_path.glob("last_*"))


@pytest.mark.parametrize("edit", ["null", "[]", lambda row: row | {"vr": 7}])
def test_a_run_meets_the_line_too_before_it_answers(run, edit):
    change(run / "samples.jsonl", 3, edit)
    with pytest.raises(ValueError, match=r"samples\.jsonl line 3: "):
        RowStore(run)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "is broken"),
        ('{"schema": 1, "mod', "is broken"),
        ("[]", "holds no JSON object"),
        ('{"schema": 2}', "has schema 2, this package reads 1: move its folder away"),
        ('{"schema": 1, "status": null}', r"lacks \['model', 'status'"),
    ],
)
def test_a_run_json_that_is_none_is_named_with_the_way_out(run, content, told):
    (run / "run.json").write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=rf"run\.json.*{told}"):
        load_run(run)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"requested": {"rows": [null]}, "status": "complete"}'])
def test_status_names_it_too(run, content, monkeypatch, tmp_path):
    monkeypatch.setenv("SHARPV_RESULTS", str(tmp_path))
    (run / "run.json").write_text(content, encoding="utf-8")
    with initialize_config_dir(str(configure.CONFIGS), version_base="1.3"):
        configure.register_resolvers()
        config = compose("config")
    with pytest.raises(ValueError, match=r"run\.json .*delete it and start the run again, answers are kept"):
        status(config, "test")


@pytest.mark.parametrize("content", ["", "[]", '{"schema": 1}', '{"schema": 2, "cells": []}'])
def test_a_record_that_is_none_is_named(tmp_path, content):
    (tmp_path / "mine.json").write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=r"mine\.json "):
        load_runs([tmp_path / "mine.json"])


@pytest.fixture
def small_disk(monkeypatch):
    """No file may grow beyond 1,000 bytes: the kernel refuses the rest as a full disk does. Python itself keeps half a
    module's bytecode then, so it shall keep none."""
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_what_does_not_fit_leaves_the_old_file_and_no_part_of_the_new(tmp_path, small_disk):
    write_whole(tmp_path / "a.md", "old")
    with pytest.raises(ValueError, match=r"cannot write .*a\.md: File too large; mend that or set SHARPV_RESULTS"):
        write_whole(tmp_path / "a.md", "n" * 2000)
    assert [(path.name, path.read_text(encoding="utf-8")) for path in tmp_path.iterdir()] == [("a.md", "old")]


def test_answers_and_scores_that_do_not_fit_are_one_line_and_what_was_there_stays(tmp_path, small_disk):
    store = RowStore(tmp_path / "runs")
    store.append({"key": "a", "status": "ok"})
    with pytest.raises(ValueError, match="cannot write .*File too large.*the same command goes on there"):
        store.append({"key": "b", "status": "ok", "raw": "x" * 2000})
    append_rows(tmp_path / "scores.jsonl", [{"key": "a"}])
    with pytest.raises(ValueError, match="File too large"):
        append_rows(tmp_path / "scores.jsonl", [{"key": "b", "text": "x" * 2000}])
    store.close()
    assert list(RowStore(tmp_path / "runs").rows) == ["a"]
    append_rows(tmp_path / "scores.jsonl", [{"key": "c"}])
    assert [row["key"] for row in read_jsonl(tmp_path / "scores.jsonl")] == ["a", "c"]


def test_a_table_that_does_not_fit_leaves_no_empty_file(run, tmp_path, small_disk, capsys):
    output = tmp_path / "out"
    assert main(["table3", str(run), "--output", str(output)]) == 2
    assert "cannot write" in capsys.readouterr().err
    assert list(output.iterdir()) == []


def test_a_figure_that_does_not_fit_is_one_line(run, tmp_path, small_disk, capsys):
    assert main(["figures", str(run), "--output", str(tmp_path / "figures"), "--videos", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "File too large" in error
    assert "Traceback" not in error


def test_a_folder_that_is_a_file_is_told(tmp_path):
    (tmp_path / "results").write_text("", encoding="utf-8")
    with pytest.raises(ValueError, match="cannot write .*Not a directory|cannot write .*File exists"):
        write_whole(tmp_path / "results" / "a.md", "x")
    with pytest.raises(ValueError, match="cannot write"):
        RowStore(tmp_path / "results" / "runs").append({"key": "a", "status": "ok"})


def test_texts_are_utf_8_whatever_the_locale_says(run, tmp_path, monkeypatch):
    monkeypatch.setattr("locale.getpreferredencoding", lambda *_: "ascii")
    monkeypatch.setenv("PYTHONUTF8", "0")
    write_report("table3", [run], tmp_path, PAPER, COLUMNS)
    assert "Δ dense" in (tmp_path / "table3.md").read_text(encoding="utf-8")
    assert os.sep not in files.__name__

"""A dense row is held against the published one of its checkpoint, and against those of others."""

import pandas as pd
from report_runs import COLUMNS, DENSE, FASTV, first_wrong, write_record, write_run

from sharpv.paths import REPOSITORY
from sharpv.reports.store import load_runs
from sharpv.reports.tables.fingerprint import PUBLISHED, fingerprints
from sharpv.reports.write import write_report

OWN, OTHER = "hub/own", "hub/other"


def told(tmp_path, published, **facts):
    folder = write_run(tmp_path / "run", [(DENSE, first_wrong(2)), (FASTV, first_wrong(1))])
    model = {"name": "m", "display": "M", "paper_name": None, "path": OWN, "frames": 16}
    record = write_record(tmp_path / "a.json", {folder: {"model": model, "versions": {"torch": "2.15"}}}, **facts)
    table = write_report("table3", [record], tmp_path, REPOSITORY / "results" / "paper", COLUMNS)
    dense = table[table["kind"] == "dense"].iloc[0]
    lines = [
        {"model": path, "frames": 32, "column": column, "accuracy": dense[column] + gap, "source": f"of {path}"}
        for path, gap in published.items()
        for column in ("mvbench_acc", "videomme_wo")
    ]
    return fingerprints(table, [run.info for run in load_runs([record])], pd.DataFrame(lines))


def test_a_dense_row_near_the_published_one_looks_like_it(tmp_path):
    (text,) = told(tmp_path, {OWN: 0.4, OTHER: 9})
    assert "looks like the published model (mvbench_acc -0.4, videomme_wo -0.4 points against of hub/own)" in text


def test_one_that_is_far_names_what_to_look_at_first(tmp_path):
    (text,) = told(tmp_path, {OWN: -5.3, OTHER: 0.5})
    assert "differs from the published one by +5.3 points" in text
    assert "these are the numbers of hub/other, within 0.5" in text
    assert "16 frames where 32 are published" in text
    assert "torch 2.15" in text


def test_nothing_is_said_of_other_models_or_of_a_part_of_the_questions(tmp_path):
    assert told(tmp_path / "other", {OTHER: 0.0}) == []
    assert told(tmp_path / "few", {OWN: 0.0}, limit=5) == []


def test_every_published_row_has_a_source_and_stands_once():
    published = pd.read_csv(PUBLISHED)
    assert published["source"].str.len().min() > 5
    assert not published.duplicated(["model", "column"]).any()
    assert published["accuracy"].between(20, 100).all()

"""`benchmark=any` and a benchmark of one's own as commands, from the first answer to the table."""

import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from hub_home import run
from test_any_task import OWN

from sharpv.reports.runs import paper_columns
from sharpv.reports.store import load_runs, read_jsonl

PLAIN = ["model=tiny", "rows=[dense,evs]", "warm_up=0", "memory_every=0"]


@pytest.mark.slow
def test_a_task_in_ones_own_folder_is_answered_in_its_own_column_and_resumes(home, tmp_path):
    asked = [*PLAIN, "benchmark=any", "benchmark.task=boats", f"benchmark.include_path={OWN}"]
    ran = run(home, tmp_path, *asked)
    assert ran.returncode == 0, ran.stderr
    table = pd.read_csv(tmp_path / "last.csv")
    assert table["any"].between(0, 100).all()
    assert table["n_questions"].eq(3).all()
    assert re.search(r"\| +boats \|", (tmp_path / "last.md").read_text(encoding="utf-8"))
    numbers = pd.read_csv(next(tmp_path.glob("runs/*/metrics.csv")))
    assert list(100 * numbers["value"]) == pytest.approx(list(table["any"]), abs=1e-3)
    again = run(home, tmp_path, *asked)
    assert "finished before" in again.stdout


@pytest.mark.slow
def test_answers_given_before_a_task_had_a_score_count_once_it_has_one_and_are_reported_again(home, tmp_path):
    shutil.copytree(OWN, tmp_path / "own")
    yaml = tmp_path / "own" / "boats.yaml"
    mended = yaml.read_text(encoding="utf-8").replace("boats.jsonl", str(yaml.with_name("boats.jsonl")))
    yaml.write_text(mended.replace("better: true", "better: false"), encoding="utf-8")
    asked = [*PLAIN, "benchmark=any", "benchmark.task=boats", f"benchmark.include_path={tmp_path / 'own'}"]
    unscored = run(home, tmp_path, *asked)
    assert re.search(r"3 of 3 questions have no score of their own \(\S+ as right .*less is better", unscored.stdout)
    assert "no question has a score of its own: no table" in unscored.stdout
    yaml.write_text(mended, encoding="utf-8")
    ran = run(home, tmp_path, *asked)
    assert ran.returncode == 0, ran.stderr
    table = pd.read_csv(tmp_path / "last.csv")
    assert table["n_questions"].eq(3).all()
    (scores,) = tmp_path.glob("runs/*/scores.jsonl")
    dense = [line["score"] for line in read_jsonl(scores) if line["row"] == "dense"][-3:]
    assert table["any"].iloc[0] == pytest.approx(100 * sum(dense) / 3, abs=1e-3)
    answered = [line for path in tmp_path.glob("runs/*/samples*.jsonl") for line in read_jsonl(path)]
    assert len(answered) == 6
    runs = load_runs([tmp_path / "experiments" / "last.json"])
    assert paper_columns(runs) == {"any": "boats"}


@pytest.mark.slow
def test_a_built_in_task_is_answered_with_lmms_evals_own_number(home, tmp_path):
    checked = run(home, tmp_path, "check", "model=tiny", "benchmark=any", "benchmark.task=mlvu_dev")
    assert "task mlvu_dev: offline: metrics mlvu_percetion_score" in checked.stdout
    assert "first prompt: 'How many boats" in checked.stdout
    ran = run(home, tmp_path, *PLAIN, "benchmark=any", "benchmark.task=mlvu_dev")
    assert ran.returncode == 1, ran.stderr
    assert "INCOMPLETE: 4 answers failed" in ran.stdout
    stored = [line for path in tmp_path.glob("runs/*/samples*.jsonl") for line in read_jsonl(path)]
    assert any("SystemExit" in (line["error"] or "") for line in stored)
    numbers = pd.read_csv(next(tmp_path.glob("runs/*/metrics.csv")))
    assert numbers["metric"].eq("mlvu_percetion_score").all()
    assert numbers["failed"].eq(2).all()


@pytest.mark.slow
def test_a_task_that_only_a_server_scores_is_answered_and_sent_nowhere(home, tmp_path):
    ran = run(home, tmp_path, *PLAIN, "benchmark=any", "benchmark.task=egoschema", "limit=2")
    assert ran.returncode == 0, ran.stderr
    assert "no question has a score of its own: no table" in ran.stdout
    assert not list(Path.cwd().glob("submissions"))


@pytest.mark.slow
def test_a_task_that_needs_a_judge_is_refused_before_anything_is_answered(home, tmp_path):
    ran = run(home, tmp_path, *PLAIN, "benchmark=any", "benchmark.task=activitynetqa")
    assert ran.returncode == 2
    assert not list(tmp_path.glob("runs/*/samples*.jsonl"))

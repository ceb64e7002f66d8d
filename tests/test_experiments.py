"""Experiments on the bundled model: commands at once, sweeps, parts and stops each leave what is theirs and no more."""

import json
import os
import subprocess

import pandas as pd
import pytest
import warm
from hydra import compose, initialize_config_dir

from sharpv.answering.experiment import Experiment, is_part
from sharpv.commands import run as command
from sharpv.configuration import configure
from sharpv.files import read_jsonl
from sharpv.reports.__main__ import main

QUICK = ["threads=1", "memory_every=0", "warm_up=0"]
ONE = ["model=tiny", "benchmark=tiny_mvbench", "limit=1"]
SAME = ["method", "avg_acc", "diff_to_dense", "p_holm", "token_budget_pct", "n_questions", "n_missing"]


def environment(folder):
    return os.environ | {"SHARPV_RESULTS": str(folder)}


def start(folder, *options):
    command = [*warm.python(environment(folder)), "run.py", *QUICK, *options]
    return subprocess.Popen(command, env=environment(folder), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run(folder, *options):
    # Options that begin with a dash stand in front of settings.
    done = warm.run(environment(folder), *sorted([*QUICK, *options], key=lambda one: one[0] != "-"))
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def table(folder, name):
    return pd.read_csv(folder / f"{name}.csv")[SAME]


def answers(folder):
    return [row["key"] for path in folder.glob("runs/*/samples*.jsonl") for row in read_jsonl(path)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Tables of two commands that ran one after the other, each in a store of its own and with a record of its own."""
    tables = {}
    for pruner in ("fastv", "sharpv_adaptive"):
        folder = tmp_path_factory.mktemp(pruner)
        run(folder, f"pruner={pruner}", f"table={pruner}", *ONE)
        tables[pruner] = table(folder, pruner)
        record = json.loads((folder / "experiments" / f"{pruner}.json").read_text(encoding="utf-8"))
        assert record["command"].startswith("python run.py threads=1")
        (cell,) = record["cells"]
        assert [(row["row"], row["seed"], len(row["keys"])) for row in cell["asked"]] == [
            ("dense", 0, 10),
            (pruner, 0, 10),
        ]
    return tables


@pytest.mark.slow
def test_two_different_commands_at_once_have_each_their_own_rows_and_share_the_dense_answers(alone, tmp_path):
    processes = {name: start(tmp_path, f"pruner={name}", f"table={name}", *ONE) for name in alone}
    for process in processes.values():
        _, error = process.communicate()
        assert process.returncode == 0, error[-3000:]
    for name, expected in alone.items():
        pd.testing.assert_frame_equal(table(tmp_path, name), expected)
    keys = answers(tmp_path)
    assert len(keys) == len(set(keys)) == 30


@pytest.mark.slow
def test_two_identical_commands_at_once_share_the_work_and_make_the_same_table(alone, tmp_path):
    processes = [start(tmp_path, "pruner=fastv", "table=fastv", *ONE, f"workers={workers}") for workers in (0, 2)]
    for process in processes:
        _, error = process.communicate()
        assert process.returncode == 0, error[-3000:]
    pd.testing.assert_frame_equal(table(tmp_path, "fastv"), alone["fastv"])
    keys = answers(tmp_path)
    assert len(keys) == len(set(keys)) == 20


@pytest.mark.slow
def test_a_later_quick_run_changes_no_report_of_an_earlier_experiment(alone, tmp_path, monkeypatch, capsys):
    run(tmp_path, "pruner=fastv", "table=fastv", *ONE)
    monkeypatch.setenv("SHARPV_RESULTS", str(tmp_path))
    run(tmp_path, "pruner=sharpv_adaptive", *ONE[:2], "limit=2")
    assert main(["table3", "--experiment", "fastv", "--output", str(tmp_path), "--name", "again"]) == 0
    pd.testing.assert_frame_equal(table(tmp_path, "again"), alone["fastv"])
    title = (tmp_path / "again.md").read_text(encoding="utf-8").splitlines()[0]
    assert title.endswith("(at most 1 questions a task)")


@pytest.mark.slow
def test_a_sweep_over_a_setting_keeps_the_scores_of_all_its_jobs_and_has_a_table(tmp_path, capsys):
    said = run(
        tmp_path, "-m", "pruner=evs", "+pruner.visual_options.keep_ratio=0.1,0.3", *ONE, f"hydra.sweep.dir={tmp_path}"
    )
    assert f"python -m sharpv.reports table3 {tmp_path}/experiments/last_job*.json" in said
    assert command.report_of("last") == command.report_of("mine/last") == "table3"
    assert (command.report_of("field_table"), command.report_of("mine/table4")) == ("field_table", "table4")
    records = sorted(map(str, (tmp_path / "experiments").glob("last_job*.json")))
    assert main(["table3", *records, "--output", str(tmp_path), "--name", "sweep"]) == 0
    assert table(tmp_path, "sweep")["method"].tolist() == ["Dense", "evs (keep_ratio=0.1)", "evs (keep_ratio=0.3)"]
    keys = answers(tmp_path)
    assert len(keys) == len(set(keys)) == 30


@pytest.mark.slow
def test_a_part_of_an_experiment_is_written_beside_its_table_and_says_what_it_is(tmp_path):
    (tmp_path / "table3.md").write_text("committed", encoding="utf-8")
    said = run(
        tmp_path, "experiment=table3", "profile=tiny", "rows=[dense,fastv]", "benchmarks=[tiny_nextqa]", "limit=2"
    )
    assert (tmp_path / "table3.md").read_text(encoding="utf-8") == "committed"
    title = (tmp_path / "table3_partial.md").read_text(encoding="utf-8").splitlines()[0]
    assert title == "# Table 3: training-free visual token pruning (at most 2 questions a task)"
    assert [path.name for path in (tmp_path / "experiments").iterdir()] == ["table3_partial.json"]
    assert "not the whole experiment: table3.* stay as they are" in said
    lines = said[said.index("tiny LLaVA-OneVision (bundled)  ") :].splitlines()
    assert lines[-1].startswith(f"written: {tmp_path}/table3_partial.md, .csv, .tex; ")
    assert len(lines) == 6


@pytest.mark.slow
@pytest.mark.parametrize(
    "wrong",
    [
        ["+model.attn_implementation=flash_attention_9"],
        ["pruner=fastv", "+pruner.memory_options.layer=100"],
        ["workers=-1"],
    ],
)
def test_a_command_that_stops_before_its_first_answer_leaves_nothing(tmp_path, wrong):
    assert warm.run(environment(tmp_path), *QUICK, *wrong, *ONE).returncode != 0
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.fixture
def composed():
    configure.register_resolvers()
    with initialize_config_dir(str(configure.CONFIGS), version_base="1.3"):
        yield compose


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["experiment=table3", "profile=tiny"], False),
        (["experiment=table3", "profile=paper"], False),
        (["experiment=table1", "profile=tiny"], False),
        (["experiment=table3", "profile=tiny", "limit=2"], True),
        (["experiment=table1", "profile=tiny", "limit=null"], True),
        (["experiment=table3", "profile=tiny", "rows=[dense,fastv]"], True),
        (["experiment=table3", "profile=tiny", "benchmarks=[tiny_nextqa]"], True),
        (["experiment=table3"], True),
        (["table=table3"], True),
        (["experiment=tiny_floor", "profile=tiny", "limit=1"], True),
        (["limit=2"], False),
        (["table=mine", "limit=2"], False),
    ],
)
def test_only_the_whole_experiment_has_the_name_of_its_table(composed, options, part):
    config = composed("config", options)
    assert is_part(config) is part
    experiment = Experiment.of(config, "python run.py")
    assert (experiment.name(failed=False) == config.table) is not part
    named = config.table not in ("last", "mine")
    assert (experiment.name(failed=True) == f"{config.table}_partial") is named


def test_a_reference_that_is_no_row_is_refused_before_anything_runs(composed, tmp_path, monkeypatch):
    monkeypatch.setenv("SHARPV_RESULTS", str(tmp_path))
    with pytest.raises(ValueError, match="reference='fast' is no row of this run; there are: dense, sharpv_adaptive"):
        command.run(composed("config", ["reference=fast"]), "test")
    assert not list(tmp_path.iterdir())

"""The whole suite on the bundled model: one command, a killed run that goes on, error rows, lmms-eval itself."""

import json
import os
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest

pytestmark = pytest.mark.slow
COMMAND = [sys.executable, "run.py", "model=tiny", "pruner=sharpv_adaptive", "benchmark=tiny_mvbench", "limit=1"]
COMMAND += ["threads=1", "memory_every=5"]
TIMED = [
    "memory_gb",
    "ttft_s",
    "ttft_speedup",
    "tpot_ms",
    "prune_ms",
    "vision_bound_speedup",
    "ttft_q25_s",
    "ttft_q75_s",
]


def environment(folder):
    return os.environ | {"SHARPV_RESULTS": str(folder), "OMP_NUM_THREADS": "1"}


def rows_of(folder):
    return [json.loads(line) for line in next(folder.glob("runs/*/samples.jsonl")).read_text().splitlines()]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    answer = subprocess.run(COMMAND, env=environment(folder), capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr[-3000:]
    return folder


def test_one_command_answers_scores_and_writes_the_table(finished):
    rows = rows_of(finished)
    assert len(rows) == 20
    assert {row["row"] for row in rows} == {"dense", "sharpv_adaptive"}
    assert [row["row"] for row in rows[:2]] == ["dense", "sharpv_adaptive"]
    assert all(row["status"] == "ok" and row["ttft_s"] > 0 and row["flops"]["exact_prefill"] > 0 for row in rows)
    pruned = [row for row in rows if row["row"] == "sharpv_adaptive"]
    assert all(0 < row["vr"] < 1 and row["visual_kept"] == sum(row["kept_per_frame"]) for row in pruned)
    assert any(row["memory"] for row in rows)
    for ending in ("md", "csv", "tex"):
        assert (finished / f"table3.{ending}").stat().st_size > 0
    run = json.loads(next(finished.glob("runs/*/run.json")).read_text())
    assert run["status"] == "complete"
    assert run["versions"]["lmms-eval"] == "0.7.3"


def test_a_killed_run_goes_on_where_it_was_and_ends_in_the_same_table(finished, tmp_path):
    process = subprocess.Popen(COMMAND, env=environment(tmp_path), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None:
        stores = list(tmp_path.glob("runs/*/samples.jsonl"))
        if stores and stores[0].read_bytes().count(b"\n") >= 5:
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = rows_of(tmp_path)[:5]
    subprocess.run(COMMAND, env=environment(tmp_path), check=True, capture_output=True)
    rows = rows_of(tmp_path)
    assert rows[:5] == before
    assert len({row["key"] for row in rows}) == len(rows) == 20
    tables = [pd.read_csv(folder / "table3.csv").drop(columns=TIMED) for folder in (finished, tmp_path)]
    pd.testing.assert_frame_equal(*tables)


def test_the_plugin_serves_lmms_eval_directly(finished):
    code = (
        "from sharpv import paths; paths.go_offline()\n"
        "from lmms_eval import evaluator\n"
        "from sharpv.evaluation.samples import task_manager\n"
        "r = evaluator.simple_evaluate(model='sharpv', model_args='model=tiny,pruner=sharpv_adaptive',"
        " tasks=['tiny_mvbench_object_shape'], task_manager=task_manager('sharpv'), limit=1, bootstrap_iters=0,"
        " process_docs_parallel=1)\n"
        "print('TEXT', r['samples']['tiny_mvbench_object_shape'][0]['filtered_resps'][0])\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], env=environment(finished), capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr[-3000:]
    stored = [row for row in rows_of(finished) if row["task"] == "tiny_mvbench_object_shape" and row["row"] != "dense"]
    assert f"TEXT {stored[0]['raw']}" in answer.stdout

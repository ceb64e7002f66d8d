"""The whole suite on the bundled model: one command, what kills, Ctrl-C, several processes and sweeps end in."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial

import pandas as pd
import pytest
import warm

from sharpv.reports.store import read_jsonl

pytestmark = pytest.mark.slow
COMMAND = [sys.executable, "run.py", "model=tiny", "pruner=sharpv_adaptive", "benchmark=tiny_mvbench", "limit=1"]
COMMAND += ["threads=1", "memory_every=5"]
TIMED = [
    "memory_gb",
    "memory_max_gb",
    "samples_per_s",
    "ttft_s",
    "ttft_speedup",
    "tpot_ms",
    "prune_ms",
    "vision_bound_speedup",
    "ttft_q25_s",
    "ttft_q75_s",
]


def environment(folder):
    return os.environ | {"SHARPV_RESULTS": str(folder)}


def rows_of(folder):
    """Every whole line of every process, in the order written."""
    paths = sorted(folder.glob("runs/*/samples*.jsonl"))
    return [row for path in paths for row in read_jsonl(path)]


def run(folder, *command):
    return warm.run(environment(folder), *COMMAND[2:], *command)


def run_code(code, folder, results, *arguments):
    """Python's own words over a folder of results."""
    (folder / "given.py").write_text(code, encoding="utf-8")
    command = [*warm.python(environment(results)), str(folder / "given.py"), *arguments]
    return subprocess.run(command, env=environment(results), capture_output=True, text=True, check=False)


def start(folder, *command):
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
    # Whoever runs the tests in the background may have had Ctrl-C ignored, which children inherit.
    listening = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen([*COMMAND, *command], env=environment(folder), preexec_fn=listening, **quiet)


def wait_for_rows(process, folder, count):
    deadline = time.monotonic() + 900
    while time.monotonic() < deadline and process.poll() is None:
        if sum(path.read_bytes().count(b"\n") for path in folder.glob("runs/*/samples*.jsonl")) >= count:
            return
        time.sleep(0.02)


def assert_same_answers_and_table(one, other):
    tables = [pd.read_csv(folder / "last.csv").drop(columns=TIMED) for folder in (one, other)]
    pd.testing.assert_frame_equal(*tables)
    texts = [{(r["row"], r["task"], r["doc_id"]): (r["raw"], r["kept_bits"]) for r in rows_of(f)} for f in (one, other)]
    assert texts[0] == texts[1]
    assert len(rows_of(other)) == len(texts[1]) == 20


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
        assert (finished / f"last.{ending}").stat().st_size > 0
    run = json.loads(next(finished.glob("runs/*/run.json")).read_text(encoding="utf-8"))
    assert run["status"] == "complete"
    assert run["versions"]["lmms-eval"] == "0.7.3"


def test_a_run_killed_three_times_goes_on_where_it_was_and_ends_in_the_same_table(finished, tmp_path):
    for count in (3, 8, 14):
        process = start(tmp_path, "workers=1")
        wait_for_rows(process, tmp_path, count)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    before = rows_of(tmp_path)
    assert len(before) >= 14
    assert run(tmp_path).returncode == 0
    assert rows_of(tmp_path)[: len(before)] == before
    assert_same_answers_and_table(finished, tmp_path)


def test_ctrl_c_ends_a_run_with_its_workers_and_the_same_command_goes_on(finished, tmp_path):
    process = start(tmp_path, "workers=2")
    wait_for_rows(process, tmp_path, 5)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(timeout=600) == 130
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    assert run(tmp_path).returncode == 0
    assert_same_answers_and_table(finished, tmp_path)


def test_two_processes_share_the_videos_and_make_the_same_table_as_one(finished, tmp_path):
    python = warm.python(environment(tmp_path))
    both = [*python, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "--no-python"]
    # The machine's own name need not resolve.
    both += ["--local-addr=127.0.0.1", *python, *COMMAND[1:]]
    answer = subprocess.run(both, env=environment(tmp_path), capture_output=True, text=True, check=False, timeout=900)
    assert answer.returncode == 0, answer.stderr[-3000:]
    files = list(tmp_path.glob("runs/*/samples*.jsonl"))
    assert len(files) == 2
    assert all(file.stat().st_size for file in files)
    assert_same_answers_and_table(finished, tmp_path)
    assert len(json.loads(next(tmp_path.glob("runs/*/run.json")).read_text(encoding="utf-8"))["pass"]) == 2


def test_a_finished_run_loads_no_model_and_says_so(finished, tmp_path):
    code = (
        "import runpy, sys\n"
        "from sharpv.models.llava_onevision.loader import LlavaOnevisionModel\n"
        "def refuse(self): raise AssertionError('the model was loaded')\n"
        "LlavaOnevisionModel.load = refuse\n"
        "runpy.run_path('run.py', run_name='__main__')\n"
    )
    before = rows_of(finished)
    answer = run_code(code, tmp_path, finished, *COMMAND[2:])
    assert answer.returncode == 0, answer.stderr[-3000:]
    assert "finished before: tiny LLaVA-OneVision (bundled) on tiny_mvbench, 20 answers" in answer.stdout
    assert rows_of(finished) == before


def test_a_sweep_runs_a_job_a_cell_and_the_whole_grid_then_only_reports(tmp_path):
    sweep = ["-m", *COMMAND[2:4], "benchmark=tiny_mvbench,tiny_nextqa", *COMMAND[5:]]
    swept = warm.run(environment(tmp_path), *sweep, f"hydra.sweep.dir={tmp_path}/sweep")
    assert swept.returncode == 0, swept.stderr[-3000:]
    assert not (tmp_path / "last.csv").exists()
    grid = [*COMMAND[2:4], "benchmarks=[tiny_mvbench,tiny_nextqa]", *COMMAND[5:]]
    whole = warm.run(environment(tmp_path), *grid)
    assert whole.stdout.count("finished before") == 2, whole.stderr[-3000:]
    table = pd.read_csv(tmp_path / "last.csv")
    assert table[["mvbench_acc", "nextqa_mc"]].notna().all(axis=None)


def test_the_plugin_serves_lmms_eval_directly(finished, tmp_path):
    code = (
        "from sharpv import paths; paths.go_offline()\n"
        "from lmms_eval import evaluator\n"
        "from sharpv.benchmarks.samples import task_manager\n"
        "r = evaluator.simple_evaluate(model='sharpv', model_args='model=tiny,pruner=sharpv_adaptive',"
        " tasks=['tiny_mvbench_object_shape'], task_manager=task_manager('sharpv'), limit=1, bootstrap_iters=0,"
        " process_docs_parallel=1)\n"
        "print('TEXT', r['samples']['tiny_mvbench_object_shape'][0]['filtered_resps'][0])\n"
    )
    answer = run_code(code, tmp_path, finished)
    assert answer.returncode == 0, answer.stderr[-3000:]
    stored = [row for row in rows_of(finished) if row["task"] == "tiny_mvbench_object_shape" and row["row"] != "dense"]
    assert f"TEXT {stored[0]['raw']}" in answer.stdout

"""The store loses nothing, doubles nothing, and repairs what a kill left half-written."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from sharpv.evaluation.store import RowStore

WRITER = """
import sys
from pathlib import Path
from sharpv.evaluation.store import RowStore
store = RowStore(Path(sys.argv[1]))
for number in range(400):
    if not store.finished(str(number)):
        store.append({"key": str(number), "status": "ok", "filler": "x" * 3000})
print("done")
"""


def test_a_torn_last_line_is_cut_off_and_the_rest_kept(tmp_path):
    path = tmp_path / "samples.jsonl"
    path.write_text('{"key": "a", "status": "ok"}\n{"key": "b", "sta')
    store = RowStore(path)
    assert store.finished("a")
    assert not store.finished("b")
    store.append({"key": "b", "status": "ok"})
    assert [json.loads(line)["key"] for line in path.read_text().splitlines()] == ["a", "b"]


def test_a_broken_line_in_the_middle_is_an_error_that_names_it(tmp_path):
    path = tmp_path / "samples.jsonl"
    path.write_text('{"key": "a", "status": "ok"}\nnonsense\n{"key": "b", "status": "ok"}\n')
    with pytest.raises(ValueError, match="line 2"):
        RowStore(path)


def test_an_error_row_is_run_again_and_its_answer_replaces_it(tmp_path):
    store = RowStore(tmp_path / "samples.jsonl")
    store.append({"key": "a", "status": "error"})
    assert not store.finished("a")
    store.append({"key": "a", "status": "ok"})
    assert RowStore(tmp_path / "samples.jsonl").finished("a")


def test_numbers_that_json_does_not_know_are_refused(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        RowStore(tmp_path / "samples.jsonl").append({"key": "a", "status": "ok", "vr": float("nan")})


@pytest.mark.slow
def test_a_writer_killed_at_random_moments_loses_and_doubles_nothing(tmp_path):
    path, rng = tmp_path / "samples.jsonl", random.Random(0)
    light = {**os.environ, "PYTHONPATH": os.getcwd()}
    for _ in range(12):
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, env=light)
        time.sleep(rng.uniform(0.1, 0.5))
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run([sys.executable, "-c", WRITER, str(path)], check=True, env=light)
    keys = [json.loads(line)["key"] for line in path.read_text().splitlines()]
    assert sorted(keys, key=int) == [str(number) for number in range(400)]

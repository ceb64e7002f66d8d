"""LongVideoBench, MLVU and EgoSchema on fixture data in their own layouts, with the bundled model."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from golden_cases.llava_onevision import task_of

from sharpv.benchmarks import long, submission, upstream
from sharpv.benchmarks.columns import require_columns
from sharpv.configuration import configure
from sharpv.reports.store import read_jsonl

FIXTURES = Path(__file__).parent / "fixtures" / "hub_home"
NAMES = ["mlvu_test", "longvideobench", "mlvu_dev", "egoschema", "egoschema_full"]
BASES = {
    "longvideobench": "_sharpv_longvideobench_base",
    "mlvu_dev": "_sharpv_mlvu_dev_base",
    "mlvu_test": "_sharpv_mlvu_test_base",
    "egoschema": "sharpv_egoschema",
    "egoschema_full": "sharpv_egoschema_full",
}
FILES = {
    "longvideobench": "longvideobench--LongVideoBench/snapshots/*/validation-*.parquet",
    "mlvu_dev": "sy1998--MLVU_dev/snapshots/*/mlvu/*.parquet",
    "mlvu_test": "sy1998--MLVU_Test/snapshots/*/mlvu_test/*.parquet",
    "egoschema": "lmms-eval--egoschema/snapshots/*/Subset/*.parquet",
    "egoschema_full": "lmms-eval--egoschema/snapshots/*/GENERATION/*.parquet",
}
FAILED = {"longvideobench": 3, "mlvu_dev": 2, "mlvu_test": 2, "egoschema": 2, "egoschema_full": 3}
"""Questions about the missing and the broken video."""


def docs(name):
    found = pd.read_parquet(next((FIXTURES / "hub").glob(f"datasets--{FILES[name]}"))).to_dict("records")
    assert found
    return [{key: None if value is pd.NA else value for key, value in doc.items()} for doc in found]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """What HF_HOME is to a user, in a copy that caches may be written to."""
    folder = tmp_path_factory.mktemp("home") / "hub_home"
    shutil.copytree(FIXTURES, folder)
    return folder


def run(home, results, *arguments):
    environment = os.environ | {"HF_HOME": str(home), "SHARPV_RESULTS": str(results), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "run.py", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_all_are_answered_in_one_table_whose_columns_stand_in_the_order_asked(home, tmp_path):
    asked = [f"benchmarks=[{','.join(NAMES)}]", "rows=[dense,evs]", "warm_up=0", "memory_every=0", "scoring=upstream"]
    ran = run(home, tmp_path, "model=tiny", *asked)
    failed = 2 * sum(FAILED.values())
    assert ran.returncode == 1, ran.stderr
    assert f"INCOMPLETE: {failed} answers failed" in ran.stdout
    stored = [line for path in tmp_path.glob("runs/*/samples*.jsonl") for line in read_jsonl(path)]
    reasons = {line["error"] for line in stored if line["status"] == "error"}
    assert sum(line["status"] == "error" for line in stored) == failed
    assert any("does not exist" in reason for reason in reasons)
    assert any("cannot be read" in reason for reason in reasons)

    table = pd.read_csv(tmp_path / "last.csv")
    assert table[NAMES].notna().all(axis=None)
    assert table["mvbench_acc"].isna().all()
    # Of EgoSchema's full set those with a public answer alone, none here, would count.
    assert table["n_questions"].eq(9 + 8 + 7 + 5 + 7).all()
    heads = "| MLVU test | LongVideoBench | MLVU dev | EgoSchema | EgoSchema full | Avg. |"
    assert heads in " ".join((tmp_path / "last.md").read_text().split())
    beside = pd.read_csv(tmp_path / "last_upstream.csv").set_index(["row", "benchmark"])
    assert beside["upstream"].notna().groupby("benchmark").all().to_dict() == {
        **dict.fromkeys(NAMES, True),
        "egoschema_full": False,
    }

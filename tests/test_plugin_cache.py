"""lmms-eval's cache of answers before our plugin: never an answer of other settings."""

import sqlite3

import pytest
from lmms_eval import evaluator
from plugin_tasks import TASK, register

from sharpv.benchmarks.samples import task_manager
from sharpv.configuration import configure


@pytest.fixture(scope="module", autouse=True)
def _data():
    register()


@pytest.fixture
def mine(monkeypatch, tmp_path):
    """Sets what the pruner `mine` stands for, in a folder of its own."""
    folder = tmp_path / "configs"
    (folder / "pruner").mkdir(parents=True)
    monkeypatch.setattr("sharpv.configuration.outside.config_folders", lambda: [configure.CONFIGS, folder])

    def write(visual: str) -> None:
        text = f"name: mine\nmethod: Mine\nkind: method\nvisual: {visual}\nmemory: null\nseeds: [0]\n"
        (folder / "pruner" / "mine.yaml").write_text(text, encoding="utf-8")

    return write


def evaluate(cache, state=""):
    return evaluator.simple_evaluate(
        model="sharpv",
        model_args=f"model=tiny,pruner=mine{state}",
        tasks=[TASK],
        task_manager=task_manager("sharpv"),
        limit=2,
        bootstrap_iters=0,
        process_docs_parallel=1,
        use_cache=cache and str(cache),
    )


def told(cache, state=""):
    with pytest.raises(ValueError, match="state=") as refused:
        evaluate(cache, state)
    return str(refused.value)


@pytest.mark.slow
def test_a_cache_serves_no_answer_of_another_state(mine, tmp_path):
    cache = tmp_path / "cache"
    mine("random_tenth")
    state = told(cache).split("state=")[1].split()[0]
    evaluate(cache, f",state={state}")
    with sqlite3.connect(cache / "cache.db") as stored:
        assert stored.execute("select count(*) from responses").fetchone() == (2,)
    mine("uniform")
    changed = told(cache, f",state={state}")
    assert f"state={state} is another state" in changed
    assert state not in told(cache)


def test_without_a_cache_no_state_is_asked_for(mine):
    mine("random_tenth")
    assert evaluate(None)["samples"][TASK]

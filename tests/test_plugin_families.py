"""lmms-eval with `--model sharpv` answers what `python run.py` answers, on small checkpoints of the newer families."""

import pytest
from checkpoints import TOWER, write_llava_video, write_qwen
from hydra import compose, initialize_config_dir
from lmms_eval import evaluator
from lmms_eval.tasks import TaskManager
from plugin_tasks import register_model
from test_any_task import OWN

from sharpv.commands.run import run
from sharpv.configuration import configure
from sharpv.reports.store import read_jsonl

SMALL = {
    "llava_video_7b": {"frames": 8, "dtype": "float32"} | {f"tower.{field}": value for field, value in TOWER.items()},
    "qwen2_5_vl_7b": {"frames": 8, "dtype": "float32", "min_pixels": 2304, "max_pixels": 2304},
    "qwen3_vl_8b": {"frames": 8, "dtype": "float32", "min_pixels": 2304, "max_pixels": 2304},
}
"""Settings of the small checkpoints, as both commands take them."""
METHODS = ["sharpv_adaptive", "random_frame"]


@pytest.fixture(scope="module", params=SMALL)
def checkpoint(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "llava_video_7b":
        write_llava_video(folder)
    else:
        write_qwen(folder, request.param[:-3])
    return request.param, folder


@pytest.fixture(scope="module")
def by_run(checkpoint, tmp_path_factory):
    """Answers of run.py by row and question."""
    (name, folder), results = checkpoint, tmp_path_factory.mktemp("results")
    settings = [f"++model.{field}={value}" for field, value in (SMALL[name] | {"path": folder}).items()]
    own = ["benchmark=any", "benchmark.task=boats", f"benchmark.include_path={OWN}", "warm_up=0", "memory_every=0"]
    configure.register_resolvers()
    with pytest.MonkeyPatch.context() as patch, initialize_config_dir(str(configure.CONFIGS)):
        patch.setenv("SHARPV_RESULTS", str(results))
        patch.setattr("sharpv.commands.run._conclude", lambda *done: 0)
        rows = f"rows=[dense,{','.join(METHODS)}]"
        assert run(compose("config", [f"model={name}", *settings, *own, rows]), "test") == 0
    stored = [line for path in results.glob("runs/*/samples*.jsonl") for line in read_jsonl(path)]
    return {(line["row"], line["doc_id"]): line["raw"] for line in stored if line["seed"] == 0}


@pytest.mark.parametrize("method", METHODS)
def test_the_plugin_answers_what_run_py_answers(checkpoint, by_run, method):
    name, folder = checkpoint
    register_model()
    settings = ",".join(f"{field}={value}" for field, value in SMALL[name].items())
    made = evaluator.simple_evaluate(
        model="sharpv",
        model_args=f"model={name},pruner={method},model.path={folder},{settings}",
        tasks=["boats"],
        task_manager=TaskManager("ERROR", include_path=str(OWN), include_defaults=False),
        bootstrap_iters=0,
        process_docs_parallel=1,
    )
    answers = {sample["doc_id"]: sample["filtered_resps"][0] for sample in made["samples"]["boats"]}
    assert answers == {doc_id: raw for (row, doc_id), raw in by_run.items() if row == method}
    assert len(answers) == 3
    assert answers != {doc_id: raw for (row, doc_id), raw in by_run.items() if row == "dense"}

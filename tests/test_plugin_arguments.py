"""What `python -m lmms_eval --model sharpv --model_args ...` takes."""

import pytest
from lmms_eval import evaluator
from plugin_tasks import TASK, register

from sharpv.answering.chat import SharpVModel
from sharpv.benchmarks.samples import task_manager
from sharpv.tiny import CHECKPOINT


@pytest.fixture(scope="module", autouse=True)
def _data():
    register()


def test_fields_of_model_and_method_are_taken():
    made = SharpVModel(pruner="fastv", keep_ratio=0.25, pretrained=str(CHECKPOINT), dtype="bfloat16", frames=4)
    assert made.row.memory.keep_ratio == 0.25
    assert str(made.loaded.adapter.model.dtype) == "torch.bfloat16"
    assert made.loaded.frames.count == 4


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"pruner": "fastv", "keep_ratoi": 0.25}, "fastv has no field 'keep_ratoi'. Did you mean 'keep_ratio'"),
        ({"pruner": "fastvv"}, "Did you mean 'fastv'"),
        ({"dtype": "bf16"}, "did you mean bfloat16"),
        ({"pruner": "flashvid", "keep_ratio": 0.1}, "both stages have a field"),
    ],
)
def test_others_are_refused_with_the_nearest(given, words):
    with pytest.raises(ValueError, match=words):
        SharpVModel(**given)


def test_a_method_that_reads_the_tower_answers():
    made = evaluator.simple_evaluate(
        model="sharpv",
        model_args="model=tiny,pruner=prumerge",
        tasks=[TASK],
        task_manager=task_manager("sharpv"),
        limit=1,
        bootstrap_iters=0,
        process_docs_parallel=1,
    )
    assert len(made["samples"][TASK]) == 1

"""Shared fixtures: a small random model of each family, a video, a prompt."""

import importlib.util
import os
from pathlib import Path

import pytest
import torch
from checkpoints import pllava_config
from hub_home import copied
from transformers import LlavaForConditionalGeneration

from sharpv.models.pllava.checkpoint import with_pooling
from sharpv.tiny.build import PROMPT, build_config, build_model, build_processor, build_tokenizer
from sharpv.tiny.scenes import render, sample_scene

LONGEST = (
    "documented_commands",
    "released",
    "end_to_end",
    "experiments",
    "rehearsal",
    "any_task_runs",
    "long_benchmarks",
)
"""Files of a minute and more, which run commands, the longest first: a worker that began one at last would run it
alone. pytest-xdist keeps this order by `--no-loadscope-reorder`; its own has the files of most tests first."""


def pytest_collection_modifyitems(items):
    order = {f"test_{name}.py": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.name, len(LONGEST)))


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Here and in the processes that tests start."""
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(scope="session")
def home(tmp_path_factory):
    """What HF_HOME is to a user, one for all files, so that their commands are forks of one process."""
    return copied(tmp_path_factory)


@pytest.fixture(scope="session")
def replay_golden():
    """The script as a module."""
    path = Path(__file__).parents[1] / "scripts" / "replay_golden.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def tokenizer():
    return build_tokenizer()


@pytest.fixture(scope="session")
def model(tokenizer):
    """A random LLaVA-OneVision of four layers that never stops by itself."""
    torch.manual_seed(0)
    model = build_model(build_config(tokenizer, layers=4)).eval()
    model.generation_config.eos_token_id = None
    return model


@pytest.fixture(scope="session")
def llava_onevision_model(model):
    return model


@pytest.fixture(scope="session")
def pllava_model():
    """A random PLLaVA of the same depth, frames and grid, behind a CLIP tower with a CLS token."""
    torch.manual_seed(0)
    config = pllava_config(frames=8, side=6, image_size=96, vocabulary=200, image_token=199)
    model = with_pooling(LlavaForConditionalGeneration(config))
    model.generation_config.eos_token_id = None
    return model


@pytest.fixture(scope="session")
def pllava_inputs(llava_onevision_inputs):
    ids = torch.tensor([[1, 5, 6, 7, *[199] * 288, 8, 9, 10, 11]])
    return {"input_ids": ids, "pixel_values": llava_onevision_inputs["pixel_values_videos"][0].clone()}


@pytest.fixture(scope="session")
def inputs(llava_onevision_inputs):
    return llava_onevision_inputs


@pytest.fixture(scope="session")
def llava_onevision_inputs(tokenizer):
    processor = build_processor(tokenizer)
    frames = list(render(sample_scene(3)))
    return processor(text=PROMPT.format(text="What is moving?"), videos=[frames], return_tensors="pt")

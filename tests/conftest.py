"""Shared fixtures: a small random model of each family, a video, a prompt."""

import pytest
import torch

from sharpv.tiny.build import PROMPT, build_config, build_model, build_processor, build_tokenizer
from sharpv.tiny.scenes import render, sample_scene


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


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
def inputs(tokenizer):
    processor = build_processor(tokenizer)
    frames = list(render(sample_scene(3)))
    return processor(text=PROMPT.format(text="What is moving?"), videos=[frames], return_tensors="pt")

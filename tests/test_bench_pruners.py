"""The straightforward versions that the bench times give what the methods give."""

import sys

import pytest
import torch

from sharpv.paths import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "scripts"))
from bench_pruners import VISUAL, Size, make_video
from plain_pruners import PLAIN, same_rows


@pytest.mark.parametrize("method", [method for method in VISUAL if type(method) in PLAIN], ids=repr)
def test_a_straightforward_version_gives_the_same_rows(method):
    torch.manual_seed(0)
    video = make_video(Size(6, 14, 64, 128, 4, 2), torch.device("cpu"), torch.float32)
    with torch.inference_mode():
        selection, plain = method.select(video), PLAIN[type(method)][1](video, method)
        assert same_rows(selection, plain)
        assert not same_rows(selection, plain[1:])

"""What each row is charged in the one pass equals what it costs in a process of its own."""

import os
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from sharpv import MemorySharpV, VisualSharpV
from sharpv.answering import work
from sharpv.answering.runner import Runner
from sharpv.answering.store import RowStore
from sharpv.benchmarks.samples import Sample
from sharpv.configuration.rows import Row
from sharpv.metrics import timing
from sharpv.models import adapter_for
from sharpv.models.llava_onevision.loader import siglip_pixels
from sharpv.models.loaded import Loaded, of_frames
from sharpv.pruners.controls import FewerFrames, Random
from sharpv.pruners.prumerge import PruMerge
from sharpv.reports.store import read_samples
from sharpv.tiny.build import PROMPT, build_config, build_model, build_tokenizer
from sharpv.tiny.scenes import SIDE, render, sample_scene
from sharpv.tiny.video import write_mp4
from sharpv.videos.frames import Evenly

STAGES = {
    "dense": (None, None),
    "sharpv": (VisualSharpV(), MemorySharpV(0.9)),
    "prumerge": (PruMerge(), None),
    "fewer": (FewerFrames(keep_ratio=0.25), None),
    "random": (Random(keep_ratio=0.3), None),
}
CHARGED = ("times_s", "ttft_s", "tpot_s", "memory", "frames_encoded", "raw", "kept_bits")


class OperationClock(TorchDispatchMode):
    """Tells the time in operations that made something, views left out: costs that compare to the last digit."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += not function.is_view and "view" not in str(function)
        return function(*args, **(kwargs or {}))


def charged(names: list[str], video: Path, folder: Path) -> dict[tuple[str, int], dict]:
    """What two questions about a video cost each of these rows, run together in this process."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    model = build_model(build_config(tokenizer, layers=4)).eval()
    model.generation_config.eos_token_id = None
    pixels = of_frames(partial(siglip_pixels, side=SIDE))
    loaded = Loaded("random", adapter_for(model), tokenizer, pixels, Evenly(8), PROMPT, 1.0, frozenset(), "none")
    rows = [Row(name, name, "method", 0, *STAGES[name], {"visual": name, "memory": name}) for name in names]
    samples = [Sample("b", "t", n, "What is moving?", video, "red ring", 3, f"hash {n}") for n in range(2)]
    store = RowStore(folder)
    with OperationClock() as clock:
        timing.HOST_CLOCKS["wall"] = lambda: float(clock.count)
        Runner(loaded, store, 0).run(work.questions(samples, rows, "run", 1), warm_up=0)
    store.close()
    return {(one["row"], one["doc_id"]): {field: one[field] for field in CHARGED} for one in read_samples(folder)}


@pytest.mark.slow
def test_five_rows_in_one_pass_are_charged_what_each_costs_in_a_process_of_its_own(tmp_path, monkeypatch):
    video = tmp_path / "good.mp4"
    write_mp4(video, render(sample_scene(1)), 2)
    # The server of forks of Python 3.11 looks for what it imports first where a new interpreter would.
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    forked = get_context("forkserver")
    forked.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(2, forked, max_tasks_per_child=1) as processes:
        together = processes.submit(charged, list(STAGES), video, tmp_path / "together")
        alone = [processes.submit(charged, [name], video, tmp_path / name) for name in STAGES]
        expected = {key: costs for one in alone for key, costs in one.result().items()}
        assert together.result() == expected
    assert len(expected) == 2 * len(STAGES)
    ttft = {name: expected[name, 0]["ttft_s"] for name in STAGES}
    assert ttft["dense"] < ttft["random"] < ttft["prumerge"]
    assert all(costs["memory"]["above_weights_bytes"] > 0 for costs in expected.values())

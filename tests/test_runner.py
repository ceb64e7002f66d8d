"""The one-pass runner: what questions share, what each row is charged, and what failures cost."""

import copy
import dataclasses
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from sharpv import MemorySharpV, VisualSharpV
from sharpv.answering import encoding, runner, work
from sharpv.answering.runner import Runner
from sharpv.answering.store import RowStore
from sharpv.benchmarks.samples import Sample
from sharpv.configuration.rows import Row
from sharpv.models import adapter_for
from sharpv.models.llava_onevision.loader import siglip_pixels
from sharpv.models.loaded import Loaded, of_frames
from sharpv.pruners.controls import FewerFrames, Random
from sharpv.pruners.prumerge import PruMerge
from sharpv.pruners.query_relevance import QueryRelevance
from sharpv.pruners.visionzip import VisionZip
from sharpv.reports.store import read_samples
from sharpv.tiny.build import PROMPT
from sharpv.tiny.scenes import SIDE, render, sample_scene
from sharpv.tiny.video import write_mp4
from sharpv.videos.frames import Evenly, read_video


@pytest.fixture
def loaded(model, tokenizer):
    pixels = of_frames(partial(siglip_pixels, side=SIDE))
    return Loaded("random", adapter_for(model), tokenizer, pixels, Evenly(8), PROMPT, 1.0, frozenset(), "none")


@pytest.fixture
def video(tmp_path):
    write_mp4(tmp_path / "good.mp4", render(sample_scene(1)), 2)
    return tmp_path / "good.mp4"


def sample(video: Path, number: int = 0) -> Sample:
    return Sample("b", "t", number, "What is moving?", video, "red ring", 3, f"hash {number}")


def row(name, visual=None, memory=None):
    return Row(name, name, "method" if visual else "dense", 0, visual, memory, {"visual": name, "memory": name})


DENSE, SHARPV = row("dense"), row("sharpv", VisualSharpV(), MemorySharpV(0.9))
FEWER, DRAWN = row("fewer", FewerFrames(keep_ratio=0.25)), row("random", Random(keep_ratio=0.3))
TAPPED = row("p", PruMerge())


def answers(loaded, rows, samples, folder, workers=0, memory_every=0):
    store = RowStore(folder)
    asked = work.questions(samples, rows, "run", memory_every)
    spent = Runner(loaded, store, workers).run(work.left(asked, store), warm_up=0)
    store.close()
    return read_samples(folder), spent


def test_an_unreadable_and_a_missing_video_become_error_rows_and_the_others_are_answered(loaded, video, tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"no video at all")
    samples = [sample(tmp_path / name, i) for i, name in enumerate(["broken.mp4", "good.mp4", "missing.mp4"])]
    found, _ = answers(loaded, [DENSE, SHARPV], samples, tmp_path / "run")
    by_video = {
        name: [one for one in found if one["video"] == name] for name in ("broken.mp4", "good.mp4", "missing.mp4")
    }
    assert [one["status"] for one in by_video["good.mp4"]] == ["ok", "ok"]
    assert all(one["status"] == "error" and "broken.mp4" in one["error"] for one in by_video["broken.mp4"])
    assert all(one["status"] == "error" and "does not exist" in one["error"] for one in by_video["missing.mp4"])


@pytest.mark.parametrize(
    ("broken", "place"),
    [
        ("word", "text"),
        ("tower", "vision tower"),
        ("layer", "decoder layer 3"),
        ("head", "last decoder layer or the head"),
    ],
)
@torch.no_grad()
def test_logits_that_are_not_finite_are_an_error_that_says_where(loaded, video, tmp_path, broken, place):
    model = copy.deepcopy(loaded.adapter.model)
    language = model.model.language_model
    if broken == "word":
        model.get_input_embeddings().weight[loaded.tokenizer("moving").input_ids[0]] = torch.nan
    elif broken == "tower":
        model.model.multi_modal_projector.linear_2.bias[0] = torch.inf
    else:
        weight = language.layers[2].mlp.down_proj.weight if broken == "layer" else language.norm.weight
        weight[0] = torch.nan
    loaded = dataclasses.replace(loaded, adapter=adapter_for(model))
    found, _ = answers(loaded, [DENSE, SHARPV], [sample(video), sample(video, 1)], tmp_path / "run")
    assert [one["status"] for one in found] == ["error"] * 4
    told = [one["error"] for one in found if one["row"] == "dense"]
    assert all("not finite" in error and place in error for error in told), told


def test_a_question_longer_than_the_models_positions_is_an_error_row_that_names_it(loaded, video, tmp_path):
    text = "What is moving? " * 20_000
    long = dataclasses.replace(sample(video, 1), text=text)
    found, _ = answers(loaded, [DENSE, SHARPV], [long, sample(video)], tmp_path / "s")
    assert [row["status"] for row in found] == ["error", "error", "ok", "ok"]
    positions = loaded.adapter.language_model.config.max_position_embeddings
    for failed in found[:2]:
        assert "What is moving? What is" in failed["error"]
        assert f"has {positions} positions" in failed["error"]


def test_a_question_with_a_problem_is_an_error_row_and_its_neighbour_is_answered(loaded, video, tmp_path):
    broken = dataclasses.replace(sample(video, 1), problem="t question 1: answer 5 is none of the numbers 0 to 4")
    found, _ = answers(loaded, [DENSE, SHARPV], [sample(video, 0), broken], tmp_path / "run")
    assert [one["status"] for one in found if one["doc_id"] == 0] == ["ok", "ok"]
    assert {one["error"] for one in found if one["doc_id"] == 1} == {broken.problem}


def test_rows_say_which_frames_of_which_file_were_seen_and_what_was_damaged(loaded, tmp_path):
    whole = np.random.default_rng(0).integers(0, 255, (24, 96, 96, 3), np.uint8)
    write_mp4(tmp_path / "v.mp4", whole, 1)
    content = bytearray((tmp_path / "v.mp4").read_bytes())
    for place in range(len(content) // 3, len(content) // 2, 50):
        content[place] ^= 255
    (tmp_path / "v.mp4").write_bytes(content)
    found, _ = answers(loaded, [DENSE, SHARPV], [sample(tmp_path / "v.mp4")], tmp_path / "run")
    assert {one["video_path"] for one in found} == {str(tmp_path / "v.mp4")}
    assert {len(one["frame_places"]) for one in found} == {8}
    assert {one["decode_errors"] for one in found} == {read_video(tmp_path / "v.mp4", 8).decode_errors}
    assert found[0]["decode_errors"] > 0
    assert {(one["decoding"], one["frames_cached"]) for one in found} == {("start: damaged", False)}


def test_vision_passes_are_as_many_as_videos_even_with_rows_that_read_the_tower(loaded, video, tmp_path, monkeypatch):
    passes, encode = [], loaded.adapter.encode
    monkeypatch.setattr(
        type(loaded.adapter), "encode", lambda self, pixels: (passes.append(len(pixels)), encode(pixels))[1]
    )
    rows = [DENSE, SHARPV, TAPPED, row("v", VisionZip())]
    found, spent = answers(loaded, rows, [sample(video, i) for i in range(4)], tmp_path / "run")
    assert passes == [8]
    assert len(found) == 16
    assert spent["videos"] == 1


def test_a_selection_that_no_seed_enters_is_made_once_a_video_and_charged_to_every_question(
    loaded, video, tmp_path, monkeypatch
):
    made = Counter()
    for kind in (VisualSharpV, Random):
        select = kind.select
        monkeypatch.setattr(kind, "select", lambda self, v, s=select: (made.update([type(self)]), s(self, v))[1])
    found, _ = answers(loaded, [SHARPV, DRAWN], [sample(video, i) for i in range(4)], tmp_path / "run")
    assert made == {VisualSharpV: 1, Random: 4}
    prune = {name: {one["times_s"]["prune"] for one in found if one["row"] == name} for name in ("sharpv", "random")}
    assert len(prune["sharpv"]) == 1
    assert min(prune["sharpv"]) > 0
    assert len({one["kept_bits"] for one in found if one["row"] == "random"}) == 4


def test_a_selection_that_reads_the_question_is_another_for_each_question_on_a_video(loaded, video, tmp_path):
    texts = ["What is moving?", "How many red rings are there on the left?"]
    samples = [dataclasses.replace(sample(video, number), text=text) for number, text in enumerate(texts)]
    relevant = row("relevant", QueryRelevance(0.3))
    found, _ = answers(loaded, [relevant, SHARPV], samples, tmp_path / "run")
    kept_bits = {name: [one["kept_bits"] for one in found if one["row"] == name] for name in ("relevant", "sharpv")}
    assert len(set(kept_bits["relevant"])) == 2
    assert len(set(kept_bits["sharpv"])) == 1
    prune = {name: {one["times_s"]["prune"] for one in found if one["row"] == name} for name in kept_bits}
    assert (len(prune["relevant"]), len(prune["sharpv"])) == (2, 1)
    alone, _ = answers(loaded, [relevant], samples[1:], tmp_path / "alone")
    assert alone[0]["kept_bits"] == kept_bits["relevant"][1]


def test_ttft_is_the_sum_of_its_stages_and_vision_that_of_the_frames_that_the_row_encodes(
    loaded, video, tmp_path, monkeypatch
):
    seconds, vision_pass = {8: 80.0, 2: 20.0}, encoding.vision_pass
    monkeypatch.setattr(
        encoding, "vision_pass", lambda model, x, layers: (*vision_pass(model, x, layers)[:2], seconds[len(x)])
    )
    found, _ = answers(loaded, [DENSE, SHARPV, TAPPED, FEWER], [sample(video)], tmp_path / "run")
    vision = {one["row"]: one["times_s"]["vision"] for one in found}
    assert vision == {"dense": 80.0, "sharpv": 80.0, "p": 80.0, "fewer": 20.0}
    assert {one["row"]: one["frames_encoded"] for one in found} == {"dense": 8, "sharpv": 8, "p": 8, "fewer": 2}
    for one in found:
        stages = [one["times_s"][stage] for stage in ("vision", "prune", "prefill", "first_token")]
        assert one["ttft_s"] == pytest.approx(sum(stages))


class Operations(TorchDispatchMode):
    """Counts the operations that make something, views left out."""

    def __init__(self):
        super().__init__()
        self.count = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if not function.is_view and "view" not in str(function):
            self.count[str(function)] += 1
        return function(*args, **(kwargs or {}))


def test_recording_the_tower_adds_no_operation_to_the_vision_pass(loaded):
    pixels, counted = torch.zeros(8, 3, SIDE, SIDE), []
    for layers in (None, (-1, -2)):
        with torch.inference_mode(), Operations() as operations:
            encoding.vision_pass(loaded, pixels, layers)
        counted.append(operations.count)
    assert sum(counted[0].values()) > 20
    assert counted[0] == counted[1]


def test_memory_charges_the_tower_only_to_rows_that_read_it_and_few_frames_as_few(loaded, video, tmp_path):
    alone, _ = answers(loaded, [DENSE, FEWER], [sample(video)], tmp_path / "a", memory_every=1)
    together, _ = answers(loaded, [DENSE, FEWER, TAPPED], [sample(video)], tmp_path / "b", memory_every=1)
    peak = {one["row"]: one["memory"]["above_weights_bytes"] for one in together}
    assert {one["row"]: one["memory"]["above_weights_bytes"] for one in alone} == {
        k: peak[k] for k in ("dense", "fewer")
    }
    assert peak["p"] > peak["dense"] > peak["fewer"]


class Hungry(VisualSharpV):
    """Runs out of memory so many times."""

    times = 0

    def select(self, video):
        if type(self).times:
            type(self).times -= 1
            raise self.error
        return super().select(video)


@pytest.mark.parametrize("error", [torch.cuda.OutOfMemoryError("CUDA out of memory"), MemoryError("no memory")])
@pytest.mark.parametrize(("times", "ends"), [(1, "ok"), (2, "error")])
def test_out_of_memory_empties_caches_tries_once_more_then_costs_that_answer_only(
    loaded, video, tmp_path, monkeypatch, error, times, ends
):
    emptied = []
    monkeypatch.setattr(Runner, "_empty_caches", staticmethod(lambda: emptied.append(1)))
    monkeypatch.setattr(Hungry, "error", error, raising=False)
    monkeypatch.setattr(Hungry, "times", times)
    found, _ = answers(loaded, [DENSE, SHARPV, row("hungry", Hungry()), TAPPED], [sample(video)], tmp_path / "run")
    by_row = {one["row"]: one for one in found}
    assert len(emptied) == 1
    assert by_row["hungry"]["status"] == ends
    assert ends == "ok" or type(error).__name__ in by_row["hungry"]["error"]
    assert [by_row[name]["status"] for name in ("dense", "sharpv", "p")] == ["ok"] * 3


def test_out_of_memory_is_also_what_the_cpu_allocator_says():
    assert runner.out_of_memory(
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
    )
    assert not runner.out_of_memory(RuntimeError("shapes do not match"))


def test_rows_answer_alike_whether_they_run_together_or_alone(loaded, video, tmp_path):
    rows, samples = [DENSE, SHARPV, TAPPED, FEWER, DRAWN], [sample(video, i) for i in range(2)]
    together, _ = answers(loaded, rows, samples, tmp_path / "together")
    alone = [one for number, r in enumerate(rows) for one in answers(loaded, [r], samples, tmp_path / str(number))[0]]
    assert kept(together) == kept(alone)
    assert len(kept(alone)) == 10


def kept(found):
    measured = ("times_s", "ttft_s", "tpot_s", "memory")
    return {(one["row"], one["doc_id"]): {k: v for k, v in one.items() if k not in measured} for one in found}


def test_a_changed_text_video_setting_name_or_run_gets_another_key(video):
    one, other = sample(video), dataclasses.replace(sample(video), text="What is still?")
    keys = {
        work.questions([s], [r], run, 1)[0].tasks[0].key for s in (one, other) for r in (DENSE, SHARPV) for run in "ab"
    }
    video.write_bytes(video.read_bytes() + b"changed")
    keys |= {task.key for task in work.questions([one], [DENSE, row("renamed")], "a", 1)[0].tasks}
    assert len(keys) == 10

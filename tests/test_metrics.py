"""Measurements: formulas against a counter on real modules, peaks of known allocations, clocks."""

import os
import signal

import pytest
import torch
from families import FAMILIES, FRAMES
from torch.utils.flop_counter import FlopCounterMode
from transformers.cache_utils import DynamicCache

from sharpv.metrics.flops import (
    LanguageShape,
    both_sides,
    eq5_prefill,
    exact_decode,
    exact_prefill,
    exact_vision,
    stage_flops,
)
from sharpv.metrics.memory import PeakClock, peak_memory, weight_bytes
from sharpv.metrics.profiling_models import build, shape_config
from sharpv.metrics.timing import HOST_CLOCKS, Spread, StageClock
from sharpv.models import adapter_for

CPU, META = torch.device("cpu"), torch.device("meta")
TEXT = 80
GEOMETRIES = [("tiny", 8), ("llava_ov_0_5b", 32), ("llava_ov_7b", 32), ("pllava_7b", 16), ("internvl3_8b", 32)]


def test_eq5_gives_the_papers_dense_seven_billion_number():
    shape = LanguageShape.of(shape_config("llava_ov_7b").text_config)
    assert round(eq5_prefill(shape, [6272 + 80] * 28) / 1e12, 1) == 41.4


@pytest.fixture(scope="module", params=GEOMETRIES, ids=lambda geometry: geometry[0])
def geometry(request):
    """A model in its true shape without weights, its frames, and the rows of its dense prompt."""
    name, frames = request.param
    model = build(name, META, torch.float32)
    tokens = adapter_for(model).grid
    return model, frames, frames * tokens[0] * tokens[1] + TEXT


@torch.inference_mode()
def test_exact_prefill_and_decode_equal_a_counter_on_the_real_modules(geometry):
    model, _, rows = geometry
    language, head = adapter_for(model).language_model, model.get_output_embeddings()
    shape, cache = LanguageShape.of(language.config), DynamicCache(config=language.config)
    for fed, expected in (
        (rows, exact_prefill(shape, [rows] * shape.depth, causal=False)),
        (1, exact_decode(shape, [rows] * shape.depth)),
    ):
        embeddings = torch.empty(1, fed, shape.width, device=META)
        with FlopCounterMode(display=False) as counter:
            states = language(inputs_embeds=embeddings, past_key_values=cache, use_cache=True).last_hidden_state
            head(states[:, -1:])
        assert expected == pytest.approx(counter.get_total_flops(), rel=1e-3)


@torch.inference_mode()
def test_exact_vision_equals_a_counter_on_the_real_tower(geometry):
    model, frames, _ = geometry
    vision = model.config.vision_config
    pixels_TCHW = torch.empty(frames, vision.num_channels, *both_sides(vision.image_size), device=META)
    adapter = adapter_for(model)
    with FlopCounterMode(display=False) as counter:
        adapter.encode(pixels_TCHW)
    expected = exact_vision(vision, frames, model.config.text_config.hidden_size, adapter.grid)
    assert expected == pytest.approx(counter.get_total_flops(), rel=1e-3)


def test_causal_attention_leaves_out_the_pairs_of_later_keys():
    shape = LanguageShape.of(shape_config("tiny").text_config)
    square, causal = (exact_prefill(shape, [10, 4], causal=causal) for causal in (False, True))
    assert square - causal == 4 * (10 * 9 / 2 + 4 * 3 / 2) * shape.heads * shape.head_width


def test_stages_follow_each_layers_own_rows_without_any_weights():
    config = shape_config("llava_ov_7b")
    flops = stage_flops(config, 32, [6352] * 3 + [1962] * 25, [[1962] * 28, [1963] * 28])
    shape = LanguageShape.of(config.text_config)
    assert len(flops.prefill) == 28
    assert flops.prefill[2] > 3 * flops.prefill[3]
    assert flops.first_token - flops.vision == exact_prefill(shape, [6352] * 3 + [1962] * 25)
    assert flops.decode[1] - flops.decode[0] == 28 * 4 * shape.heads * shape.head_width


def test_peak_memory_counts_live_bytes_only():
    with peak_memory(CPU) as peak:
        first = torch.zeros(1000, 250)
        second = first + 1
        del first
        third = second * 2
        del second, third
        torch.zeros(1000, 250)
    assert peak.above == 2_000_000


def test_each_stage_has_its_own_peak_above_what_earlier_stages_left():
    with PeakClock(CPU) as clock:
        kept = torch.zeros(1000)
        torch.zeros(5000)
        clock.mark("prefill")
        torch.zeros(1000)
        clock.mark("decode")
        torch.zeros(2000)
        clock.mark("decode")
        del kept
        clock.mark("after")
    assert clock.peaks == {"prefill": 24_000, "decode": 12_000, "after": 4_000}


def test_shared_weights_are_counted_once(model):
    assert weight_bytes(model) < sum(p.numel() * 4 for p in model.state_dict().values())


def test_stages_add_up_and_a_repeated_stage_is_summed():
    clock = StageClock(CPU)
    for stage in ("vision", "decode", "decode"):
        clock.mark(stage)
    seconds, laps = clock.seconds(), clock.laps()
    assert list(seconds) == ["vision", "decode"]
    assert all(value >= 0 for value in seconds.values())
    assert len(laps["decode"]) == 2
    assert sum(laps["decode"]) == seconds["decode"]


def test_a_stage_clock_reads_the_clock_that_was_asked_for(monkeypatch):
    monkeypatch.setitem(HOST_CLOCKS, "process", iter([0.0, 2.0, 5.0]).__next__)
    clock = StageClock(CPU, "process")
    clock.mark("prefill")
    clock.mark("decode")
    assert clock.seconds() == {"prefill": 2.0, "decode": 3.0}


def test_marks_on_a_gpu_are_events_of_the_models_own_device(monkeypatch):
    """Which need not be torch's current one, as with model.device=cuda:1."""
    recorded, waited = [], []

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self, stream):
            recorded.append(stream)

        def elapsed_time(self, later):
            return 1500.0

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"stream of {device}")
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    clock = StageClock(torch.device("cuda:1"))
    clock.mark("vision")
    assert waited == []
    assert clock.seconds() == {"vision": 1.5}
    assert recorded == ["stream of cuda:1"] * 2
    assert waited == [torch.device("cuda:1")]


def test_a_spread_is_median_and_quartiles_and_needs_two_values():
    assert Spread.of([4.0, 1.0, 2.0, 3.0, 5.0]) == Spread(3.0, 2.0, 4.0)
    with pytest.raises(ValueError, match="at least 2"):
        Spread.of([1.0])


@pytest.fixture
def interruptible():
    """Ctrl-C as Python has it by itself, whatever started the tests."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_while_memory_is_measured_is_raised_behind_it(interruptible):
    reached = []

    def interrupted():
        with peak_memory(CPU):
            os.kill(os.getpid(), signal.SIGINT)
            reached.append(torch.zeros(8))

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert reached
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("name", ["qwen2_5_vl", "qwen3_vl"])
def test_exact_vision_of_qwen_equals_a_counter_on_the_real_tower(name):
    model, inputs = FAMILIES[name]()
    model.set_attn_implementation("eager")  # torch 2.11 counts no fused attention on a CPU
    grid = tuple((inputs["video_grid_thw"][0, 1:] // 2).tolist())
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.get_video_features(inputs["pixel_values_videos"], inputs["video_grid_thw"], return_dict=True)
    expected = exact_vision(model.config.vision_config, FRAMES, model.config.text_config.hidden_size, grid)
    assert counter.get_total_flops() == pytest.approx(expected, rel=1e-9)

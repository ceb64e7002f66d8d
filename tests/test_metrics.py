"""FLOPs against the paper and a counter on the real modules; memory and time by what they claim to measure."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from sharpv.metrics.flops import LanguageShape, eq5_prefill, exact_prefill, exact_vision
from sharpv.metrics.memory import peak_memory, weight_bytes
from sharpv.metrics.timing import StageClock


def test_eq5_gives_the_papers_dense_seven_billion_number():
    shape = LanguageShape(3584, 18944, 28, 28, 4, 128, 152064)
    assert round(eq5_prefill(shape, [6272 + 80] * 28) / 1e12, 1) == 41.4


@torch.inference_mode()
def test_exact_prefill_equals_a_counter_on_the_real_modules(model, inputs):
    language = model.model.language_model
    embeddings = torch.randn(1, 200, language.config.hidden_size)
    with FlopCounterMode(display=False) as counter:
        states = language(inputs_embeds=embeddings, use_cache=False).last_hidden_state
        model.lm_head(states[:, -1:])
    shape = LanguageShape.of(language.config)
    counted = counter.get_total_flops()
    attention = 4 * 200 * 200 * language.config.hidden_size * shape.depth
    causal = 4 * (200 * 201 / 2) * language.config.hidden_size * shape.depth
    assert exact_prefill(shape, [200] * shape.depth) == pytest.approx(counted - attention + causal, rel=1e-3)


@torch.inference_mode()
def test_exact_vision_equals_a_counter_on_the_real_tower(model, inputs):
    with FlopCounterMode(display=False) as counter:
        model.get_video_features(inputs["pixel_values_videos"])
    config = model.config
    expected = exact_vision(config.vision_config, 8, config.text_config.hidden_size)
    assert expected == pytest.approx(counter.get_total_flops(), rel=1e-3)


def test_peak_memory_counts_live_bytes_only():
    with peak_memory(torch.device("cpu")) as peak:
        first = torch.zeros(1000, 250)
        second = first + 1
        del first
        third = second * 2
        del second, third
        torch.zeros(1000, 250)
    assert peak.above == 2_000_000


def test_shared_weights_are_counted_once(model):
    assert weight_bytes(model) < sum(p.numel() * 4 for p in model.state_dict().values())


def test_stages_add_up_and_a_repeated_stage_is_summed():
    clock = StageClock(torch.device("cpu"))
    for stage in ("vision", "decode", "decode"):
        clock.mark(stage)
    seconds = clock.seconds()
    assert list(seconds) == ["vision", "decode"]
    assert all(value >= 0 for value in seconds.values())

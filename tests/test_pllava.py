"""PLLaVA: the loader accounts for every key, and the pooled model is pruned as any other."""

import pytest
import torch
from checkpoints import FRAMES, SIDE, write_pllava
from safetensors.torch import load_file, save_file

from sharpv.models import adapter_for
from sharpv.models.pllava.checkpoint import load_pllava, with_pooling
from sharpv.pair import Pruner
from sharpv.pruners.fastv import FastV
from sharpv.pruners.sharpv import MemorySharpV, VisualSharpV

TEXT = [1, 5, 6, 7]


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pllava")
    return folder, write_pllava(folder)


@pytest.fixture(scope="module")
def prompt():
    ids = torch.tensor([[*TEXT, *[32000] * FRAMES * SIDE**2, 8, 9]])
    return {"input_ids": ids, "pixel_values": torch.randn(FRAMES, 3, 48, 48, generator=torch.manual_seed(1))}


def load(folder, **settings):
    return load_pllava(folder, dtype=torch.float32, **settings)


def test_a_released_checkpoint_gives_the_model_that_it_was_made_from(released):
    folder, made = released
    loaded, plain = load(folder).state_dict(), made.state_dict()
    for name, tensor in plain.items():
        there = name.replace("multi_modal_projector.", "multi_modal_projector.projector.")
        torch.testing.assert_close(loaded[there], tensor, rtol=0, atol=1e-6)


def test_lora_alpha_scales_what_is_merged(released, prompt):
    folder, _ = released
    weights = [
        load(folder, lora_alpha=alpha).model.language_model.layers[0].self_attn.q_proj.weight for alpha in (4, 8)
    ]
    assert not torch.allclose(*weights)


@pytest.mark.parametrize("kind", ["missing", "unexpected"])
def test_a_key_too_few_or_too_many_is_named(released, tmp_path, kind):
    folder, _ = released
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    shard = tmp_path / "model-00001-of-00002.safetensors"
    tensors = load_file(shard)
    if kind == "missing":
        name = next(key for key in tensors if key.endswith("norm.weight") or "mlp" in key)
        del tensors[name]
    else:
        name = "language_model.base_model.model.model.surprise.weight"
        tensors[name] = torch.zeros(1)
    save_file(tensors, shard, {"format": "pt"})
    with pytest.raises(ValueError, match=f"{kind}: .*{name.rsplit('.', 2)[-2]}"):
        load(tmp_path)


def test_plain_llava_is_refused(released):
    with pytest.raises(ValueError, match="pools no video tokens"):
        adapter_for(released[1])


@pytest.mark.parametrize("stage", [{"visual": VisualSharpV("manual", threshold=-1)}, {"memory": FastV(keep_ratio=1)}])
def test_keeping_everything_answers_as_the_dense_model(released, prompt, stage):
    model = load(released[0])
    dense = model(**prompt).logits
    with torch.inference_mode(), Pruner(**stage)(model) as report:
        kept = model(**prompt).logits
    torch.testing.assert_close(kept, dense[:, -kept.shape[1] :], rtol=0, atol=1e-5)
    assert (report.vr, report.mr) == (1, 1)


def test_both_stages_prune_a_generation(released, prompt):
    model = load(released[0])
    with Pruner(visual=VisualSharpV(), memory=MemorySharpV(threshold=0.9))(model) as report:
        answer = model.generate(**prompt, max_new_tokens=3, do_sample=False)
    assert answer.shape[1] > prompt["input_ids"].shape[1]
    assert report.vr < 1
    assert report.token_budget < report.vr


def test_few_frames_are_repeated_up_to_the_pooled_count(released):
    adapter = adapter_for(load(released[0]))
    vision = adapter.encode(torch.randn(5, 3, 48, 48))
    tokens = vision.tokens_TPD
    assert tokens.shape[:2] == (FRAMES, SIDE**2)
    assert vision.separator_D is None


def test_a_configuration_without_pooling_is_refused(released):
    made = released[1]
    shape, made.config.pooling_shape = made.config.pooling_shape, None
    try:
        with pytest.raises(ValueError, match="no pooling_shape"):
            with_pooling(made)
    finally:
        made.config.pooling_shape = shape

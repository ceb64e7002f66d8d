"""What the adapter hands FastVID of a tower that has its pooling head, against an independent eager computation.

Shape suffixes: T frames, P tokens per frame, R raw patches, X tower width, A heads, E head width.
"""

import pytest
import torch

from sharpv.models import adapter_for
from sharpv.pair import Pruner
from sharpv.pruners.fastvid import FastVID
from sharpv.tiny.build import build_config, build_model
from sharpv.tokens import Tower, VideoTokens


@pytest.fixture(scope="module")
def headed(tokenizer):
    """A random LLaVA-OneVision whose SigLIP tower has its pooling head, with weights large enough to choose patches."""
    config = build_config(tokenizer, layers=2)
    config.vision_config.vision_use_head = True
    torch.manual_seed(1)
    model = build_model(config).eval()
    with torch.no_grad():
        model.model.vision_tower.head.attention.in_proj_weight.mul_(4)
        model.model.vision_tower.head.attention.in_proj_bias.normal_()
        model.model.vision_tower.post_layernorm.weight.uniform_(0.5, 2)
    model.generation_config.eos_token_id = None
    return model


def eager(vision, pixels_TCHW):
    """The stock tower's last states and pooled vectors, and the probe's attention written out from the weights."""
    with torch.no_grad():
        outputs = vision(pixels_TCHW, output_hidden_states=True)
        attention, normed_TRX = vision.head.attention, vision.post_layernorm(outputs.hidden_states[-1])
        weight_query, weight_key, _ = attention.in_proj_weight.chunk(3)
        bias_query, bias_key, _ = attention.in_proj_bias.chunk(3)
        query_AE = (vision.head.probe[0, 0] @ weight_query.T + bias_query).unflatten(0, (attention.num_heads, -1))
        key_TRAE = (normed_TRX @ weight_key.T + bias_key).unflatten(-1, (attention.num_heads, -1))
        logits_TAR = torch.einsum("ae,trae->tar", query_AE, key_TRAE) / query_AE.shape[-1] ** 0.5
    return outputs.hidden_states[-1], outputs.pooler_output, logits_TAR.softmax(-1).mean(1)


def test_the_head_gives_pooled_vectors_and_probe_attention(headed, inputs):
    pixels_TCHW = inputs["pixel_values_videos"][0]
    states_TRX, vector_TX, attention_TR = eager(headed.model.vision_tower, pixels_TCHW)
    adapter = adapter_for(headed)
    with torch.no_grad(), adapter.tap_tower(()) as tap:
        adapter.encode(pixels_TCHW)
        tower = tap.tower()
        vectors, attentions = tower.head(tower.states_TRX)
    assert torch.equal(tower.states_TRX, states_TRX)
    assert attention_TR.std() > 1e-3
    torch.testing.assert_close(vectors, vector_TX, rtol=0, atol=1e-5)
    torch.testing.assert_close(attentions, attention_TR, rtol=0, atol=1e-6)


def test_fastvid_keeps_what_the_eager_head_says(headed, inputs):
    pixels_TCHW = inputs["pixel_values_videos"][0]
    adapter, method = adapter_for(headed), FastVID(0.3)
    with Pruner(visual=method)(headed) as report:
        answer = headed.generate(**inputs, max_new_tokens=3, do_sample=False)
    assert answer.shape[1] == inputs["input_ids"].shape[1] + 3

    _, vector_TX, attention_TR = eager(headed.model.vision_tower, pixels_TCHW)
    with torch.no_grad():
        tokens_TPD = adapter.encode(pixels_TCHW).tokens_TPD
    states_TRX = attention_TR[..., None]
    tower = Tower({}, {}, False, states_TRX, lambda states: (vector_TX, states[..., 0]), headed.model.apply_pooling)
    expected = method.select(VideoTokens(tokens_TPD, adapter.grid, tower=tower))
    assert 0 < report.vr < 1
    assert torch.equal(report.layout.selection.origin_K, expected.origin_K)
    torch.testing.assert_close(report.layout.selection.features_KD, expected.features_KD)


def test_a_tower_without_its_head_is_refused(model, inputs):
    with pytest.raises(ValueError, match="attention-pooling head"), Pruner(visual=FastVID())(model):
        model.generate(**inputs, max_new_tokens=2)
    adapter = adapter_for(model)
    with torch.no_grad(), adapter.tap_tower(()) as tap:
        adapter.encode(inputs["pixel_values_videos"][0])
    assert tap.tower().head is None

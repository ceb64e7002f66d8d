"""No method's working memory grows with the square of the visual tokens, unless its definition does.

Tokens are narrow, so that nothing linear hides a square. From 1k to 4k tokens four times as much is linear, sixteen
times quadratic.

Shape suffixes: T frames, P tokens per frame, D width, N prompt rows, R raw patches, B batch (1), G key-value heads, E
head width.
"""

import pytest
import torch
from methods import MEMORY, VISUAL
from torch import nn
from transformers.models.qwen2.modeling_qwen2 import Qwen2Config, Qwen2DecoderLayer, Qwen2RotaryEmbedding
from videos import Probe, pool

from sharpv.metrics.memory import peak_memory
from sharpv.pruners.base import MemoryPruner, VisualPruner
from sharpv.runtime.adapter import Geometry
from sharpv.runtime.cache import PrunableLayer
from sharpv.runtime.prompt import assemble, lay_out
from sharpv.runtime.report import Report
from sharpv.runtime.session import Session
from sharpv.tokens import Tower, VideoTokens, keep_all

LINEAR = 5
SIDE, WIDTH, DEPTH, TEXT_BEFORE, TEXT_AFTER = 8, 32, 4, 8, 16


def peak_of_visual(stage, frames, side, raw=None):
    """Bytes at the highest while a stage selects from frames of side x side tokens, pooled from raw x raw patches."""
    raw = raw or side
    generator = torch.Generator().manual_seed(side)
    still_PD = torch.randn(side**2, 8, generator=generator)
    features_TPD = still_PD + 0.4 * torch.randn(frames, side**2, 8, generator=generator)
    queries, keys = torch.randn(2, frames, 16, raw**2, 4, generator=generator)
    states_TRX = torch.randn(frames, raw**2, 8, generator=generator)
    tower = Tower({-1: queries}, {-1: keys}, False, states_TRX, Probe(), lambda rows: pool(rows, raw, (side, side)))
    with peak_memory(torch.device("cpu")) as peak:
        stage.select(VideoTokens(features_TPD, (side, side), tower=tower, question_QD=still_PD[:4]))
    return peak.above


@torch.inference_mode()
def peak_of_memory(stage, frames):
    """Bytes at the highest while a stage follows a prefill and two decode steps; noise stands in for the layers."""
    config = Qwen2Config(
        hidden_size=WIDTH,
        intermediate_size=WIDTH,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_hidden_layers=1,
        rope_parameters={"rope_type": "default", "rope_theta": 1e4},
        attn_implementation="sdpa",
    )
    torch.manual_seed(0)
    layer, rotary = Qwen2DecoderLayer(config, 0), Qwen2RotaryEmbedding(config)
    rows = TEXT_BEFORE + frames * SIDE**2 + TEXT_AFTER
    embeddings_BND = torch.randn(1, rows, WIDTH)
    still_PD = torch.randn(SIDE**2, WIDTH)
    embeddings_BND[0, TEXT_BEFORE:-TEXT_AFTER] = (still_PD + 0.5 * torch.randn(frames, SIDE**2, WIDTH)).flatten(0, 1)
    geometry = Geometry(frames, (SIDE, SIDE), 0)
    span = lay_out(geometry, torch.arange(TEXT_BEFORE, TEXT_BEFORE + geometry.rows), rows)
    fed = assemble(embeddings_BND, span, DEPTH, None, seed=1)
    angles = rotary(embeddings_BND, fed.positions)
    keys_BGNE = torch.randn(1, 2, rows, WIDTH // 4)
    cache, report = [PrunableLayer() for _ in range(DEPTH)], Report()
    with peak_memory(torch.device("cpu")) as peak:
        session = Session(nn.ModuleList([layer] * DEPTH), rotary, stage, fed.layout, cache, report)
        hidden_BND = fed.embeddings_BLD.clone()
        for index in range(DEPTH):
            hidden_BND = session.enter(index, hidden_BND, {"position_embeddings": angles})
            alive_BGNE = keys_BGNE[:, :, : hidden_BND.shape[1]]
            cache[index].update(alive_BGNE, alive_BGNE)
            session.attended(index, hidden_BND)
            left_BND = session.leave(index, hidden_BND)
            hidden_BND = left_BND + torch.randn_like(left_BND)
        session.finish_forward()
        for _ in range(2):
            for index in range(DEPTH):
                session.enter(index, hidden_BND[:, -1:], {"position_embeddings": tuple(a[:, -1:] for a in angles)})
                cache[index].update(keys_BGNE[:, :, -1:], keys_BGNE[:, :, -1:])
            session.finish_forward()
    assert min(report.visual_kv + report.reads[0]) < frames * SIDE**2, "nothing was pruned"
    return peak.above


@pytest.mark.parametrize("method", VISUAL, ids=repr)
def test_visual_stages(method):
    if method.quadratic != "video":
        assert peak_of_visual(method.stage, 64, 8) < LINEAR * peak_of_visual(method.stage, 16, 8), "more frames"
    if not method.quadratic:
        assert peak_of_visual(method.stage, 4, 32) < LINEAR * peak_of_visual(method.stage, 4, 16), "more tokens a frame"
    else:
        assert peak_of_visual(method.stage, 32, 14, raw=27) < 256 * 2**20


@pytest.mark.parametrize("method", MEMORY, ids=repr)
def test_memory_stages(method):
    assert peak_of_memory(method.stage, 64) < LINEAR * peak_of_memory(method.stage, 16)


class AllPairs(VisualPruner):
    def select(self, video):
        assert (video.features_ND @ video.features_ND.T).isfinite().all()
        return keep_all(video)


class FullAttention(MemoryPruner):
    def keep_cache(self, layer, state):
        layer.attention_rows(list(range(len(layer.hidden_ND))))

    def attend(self, layer, state):
        return layer.alive_V[:1]


def test_a_square_is_seen():
    assert peak_of_visual(AllPairs(), 64, 8) > 2 * LINEAR * peak_of_visual(AllPairs(), 16, 8)
    assert peak_of_memory(FullAttention(), 64) > 2 * LINEAR * peak_of_memory(FullAttention(), 16)

"""Which methods may rightly keep every token, so that the guard against settings that prune nothing spares them.

Shape suffixes: T frames, P tokens per frame, D width, A heads, E head width, Q rows of a question.
"""

import pytest
import torch
from methods import MEMORY, VISUAL
from torch import nn

from sharpv.configuration.rows import Row
from sharpv.pruners.controls import FewerFrames, Random
from sharpv.pruners.dycoke import DyCokeMerge
from sharpv.pruners.fastv import FastV
from sharpv.pruners.prumerge import PruMerge
from sharpv.pruners.prumerge_plus import PruMergePlus
from sharpv.pruners.scissor import Scissor
from sharpv.pruners.sharpv import MemorySharpV, VisualSharpV
from sharpv.tokens import Tower, VideoTokens

FRAMES, GRID, WIDTH = 5, (6, 6), 64
TOKENS = GRID[0] * GRID[1]
MAY = (
    Scissor(tau=0.97),
    Scissor(0.97, 0.4, official=True),
    PruMergePlus(),
    PruMergePlus(adaptive=True),
    PruMergePlus(adaptive=True, fence=3, official=True),
    MemorySharpV(threshold=0.9),
)


class MeanHead(nn.Module):
    def forward(self, states_TPX):
        return states_TPX.mean(1), states_TPX[..., 0].softmax(-1)


def restless(attention_P=None):
    """Tokens at right angles to each other within a frame, turned round from frame to frame: nothing ever repeats.

    attention_P: what a CLS token pays the patches; without it the tower has none.
    """
    turn_DD = torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(2))).Q
    sign_T11 = (-1.0) ** torch.arange(FRAMES)[:, None, None]
    features_TPD = sign_T11 * turn_DD[:TOKENS]
    cls = attention_P is not None
    generator = torch.Generator().manual_seed(4)
    queries, keys = torch.randn(2, FRAMES, 1, TOKENS + cls, 4, generator=generator)
    if cls:
        keys[..., 1:, 0], queries[:, :, 0] = attention_P, torch.tensor([2.0, 0, 0, 0])
    tower = Tower({-1: queries}, {-1: keys}, cls, features_TPD, MeanHead(), lambda rows: rows)
    return VideoTokens(features_TPD, GRID, seed=3, tower=tower, question_QD=features_TPD[0, :4])


@pytest.mark.parametrize("method", [*VISUAL, *MEMORY], ids=repr)
def test_only_these_settings_may(method):
    assert method.stage.may_keep_all == (method.stage in MAY)


@pytest.mark.parametrize("method", [m for m in VISUAL if not m.stage.may_keep_all], ids=repr)
def test_the_others_prune_what_never_repeats(method):
    video = restless()
    assert len(method.stage.select(video)) < video.total


def test_those_that_may_do_so_on_some_video():
    noise = VideoTokens(torch.randn(FRAMES, TOKENS, WIDTH, generator=torch.Generator().manual_seed(1)), GRID)
    for method in (Scissor(), Scissor(official=True), VisualSharpV("manual", threshold=1.2)):
        assert method.may_keep_all
        assert len(method.select(noise)) == noise.total
    attention_P = torch.zeros(TOKENS)
    attention_P[: TOKENS // 5] = 1
    outliers = restless(attention_P)
    assert len(PruMergePlus().select(outliers)) == outliers.total
    assert len(PruMerge().select(outliers)) < outliers.total


def test_adaptive_sharpv_never_keeps_a_whole_first_frame():
    assert not VisualSharpV().may_keep_all
    video = restless()
    assert VisualSharpV().select(video).per_frame(video)[0] < TOKENS


@pytest.mark.parametrize("control", [Random, FewerFrames])
def test_controls_may_where_their_reference_may(control):
    assert control(reference=Scissor()).may_keep_all
    assert not control(reference=PruMerge()).may_keep_all
    assert not control(keep_ratio=0.3).may_keep_all


def row_of(visual, memory, kind="method"):
    return Row("tried", "Tried", kind, 0, visual, memory, {"visual": {}, "memory": {}})


def test_a_row_may_where_none_of_its_stages_is_sure_to_prune():
    assert row_of(Scissor(), MemorySharpV()).may_keep_all
    assert row_of(None, None, "dense").may_keep_all
    assert not row_of(VisualSharpV(), MemorySharpV()).may_keep_all
    assert not row_of(Scissor(), FastV()).may_keep_all
    assert not row_of(None, None).may_keep_all


@pytest.mark.parametrize(
    ("method", "frames", "asked"),
    [
        (DyCokeMerge(0.5), 32, (9 + 23 * 0.5) / 32),
        (DyCokeMerge(1 - 0.7), 32, (9 + 23 * 0.3) / 32),
        (DyCokeMerge(0.5, window_tail_fix=True), 32, (8 + 24 * 0.5) / 32),
        (DyCokeMerge(0.5), 9, (2 + 6 * 0.5) / 9),
        (DyCokeMerge(0.5, odd_frame="keep"), 9, (3 + 6 * 0.5) / 9),
        (DyCokeMerge(1.0), 9, 1.0),
        (Random(reference=DyCokeMerge(0.5)), 32, (9 + 23 * 0.5) / 32),
        (Random(keep_ratio=0.3), 8, 0.3),
        (VisualSharpV(), 8, None),
    ],
    ids=repr,
)
def test_the_share_asked_for_is_of_the_video(method, frames, asked):
    share = row_of(method, None).vr_requested(frames)
    assert share == (asked if asked is None else pytest.approx(asked))
    if isinstance(method, DyCokeMerge):
        video = VideoTokens(torch.randn(frames, 200, 4), (10, 20))
        assert len(method.select(video)) / video.total == pytest.approx(share, abs=1 / 200)


def test_a_memory_stage_alone_asks_for_no_visual_share():
    assert row_of(None, FastV()).vr_requested(8) is None

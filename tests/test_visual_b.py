"""What EVS, V-CAST, VisionZip, LLaVA-Scissor and FastVID promise, on made-up videos.

Shape suffixes: T frames, P tokens per frame, D width, R raw patches, X tower width.
"""

from dataclasses import replace

import pytest
import torch
from torch import nn
from videos import RAW, TOKENS, drifting, pool, tower_of, video_of

from sharpv.pruners.evs import EVS
from sharpv.pruners.fastvid import FastVID
from sharpv.pruners.scissor import Scissor
from sharpv.pruners.vcast import VCast
from sharpv.pruners.visionzip import VisionZip


def per_frame(selection, frames):
    return torch.bincount(selection.origin_K // TOKENS, minlength=frames)


@pytest.mark.parametrize("keep_ratio", [0.05, 0.2, 0.5, 0.93])
@pytest.mark.parametrize("frames", [1, 2, 7])
def test_declared_budget(keep_ratio, frames):
    video = video_of(drifting(frames))
    total = frames * TOKENS
    assert len(EVS(keep_ratio).select(video)) == max(TOKENS, int(total * keep_ratio))
    for official in (False, True):
        counts_T = per_frame(VCast(keep_ratio, official=official).select(video), frames)
        assert counts_T.sum() == max(frames, round(total * keep_ratio))
        assert 1 <= counts_T.min() <= counts_T.max() <= TOKENS
    assert per_frame(VisionZip(keep_ratio).select(video), frames).tolist() == [round(TOKENS * keep_ratio)] * frames
    kept = len(FastVID(keep_ratio).select(video))
    assert frames <= kept <= frames * int(TOKENS * keep_ratio)


@pytest.mark.parametrize("has_cls", [False, True])
def test_visionzip_order_and_assignment(has_cls):
    selection = VisionZip(0.3).select(video_of(drifting(), has_cls=has_cls))
    origin_TK, assign_TP = selection.origin_K.view(6, -1), selection.assign_N.view(6, TOKENS)
    dominant = int(origin_TK.shape[1] * 54 / 64)
    assert len(set(selection.origin_K.tolist())) == len(selection)
    assert origin_TK[:, :dominant].diff().min() > 0
    assert origin_TK[:, dominant:].numel() == 6 * (origin_TK.shape[1] - dominant)
    assert (assign_TP // origin_TK.shape[1] == torch.arange(6)[:, None]).all()
    assert (selection.assign_N[selection.origin_K] == torch.arange(len(selection))).all()


def test_visionzip_attention_equals_the_full_softmax(monkeypatch):
    monkeypatch.setattr("sharpv.pruners.tower_attention.SCORES_AT_ONCE", 3 * RAW**2 * 10)
    for has_cls in (False, True):
        tower = tower_of(2, has_cls)
        query, key = tower.queries[-1], tower.keys[-1]
        full_TAQR = (query @ key.transpose(2, 3) * key.shape[-1] ** -0.5).softmax(-1)
        full_TR = full_TAQR[:, :, 0, 1:].mean(1) if has_cls else full_TAQR.mean((1, 2))
        attention_TP, _ = VisionZip()._pooled(tower)
        torch.testing.assert_close(attention_TP, pool(full_TR[:, :, None]).squeeze(-1))


def test_visionzip_reads_the_tower_layer_asked_for():
    video = video_of(drifting())
    tower = video.tower
    layers = [dict(zip((-2, -1), (part[-1], part[-1].flip(2)), strict=True)) for part in (tower.queries, tower.keys)]
    both = replace(tower, queries=layers[0], keys=layers[1])
    last, before = (VisionZip(0.3, layer=layer) for layer in (-1, -2))
    assert (last.tower_layers, before.tower_layers) == ((-1,), (-2,))
    chosen = [method.select(replace(video, tower=both)).origin_K for method in (last, before)]
    assert not torch.equal(*chosen)
    assert torch.equal(chosen[1], last.select(video).origin_K)


def test_merged_rows_account_for_their_tokens():
    video = video_of(drifting())
    fastvid = FastVID(keep_ratio=0.3).select(video)
    assert (fastvid.assign_N[fastvid.origin_K] == torch.arange(len(fastvid))).all()
    assert fastvid.assign_N.min() >= 0
    scissor = Scissor(tau=0.6).select(video)
    assert 1 < len(scissor) < video.total
    assert (scissor.origin_K == -1).all()
    assert sum(scissor.per_frame(video)) == pytest.approx(len(scissor.assign_N.unique()))


@pytest.mark.parametrize("method", [EVS(), VCast(), VisionZip(), FastVID()], ids=repr)
@pytest.mark.parametrize("keep_ratio", [0, -0.1, 1.1])
def test_keep_ratio_out_of_range(method, keep_ratio):
    with pytest.raises(ValueError, match=f"keep_ratio={keep_ratio}"):
        replace(method, keep_ratio=keep_ratio)


@pytest.mark.parametrize(
    ("method", "change", "message"),
    [
        (VCast(), {"min_k": 0}, "min_k=0"),
        (VCast(), {"temperature": 0}, "temperature=0"),
        (VisionZip(), {"dominant_share": 1}, "dominant_share=1"),
        (Scissor(), {"tau": 1.5}, "tau=1.5"),
        (Scissor(), {"epsilon": 0}, "epsilon=0"),
        (FastVID(), {"beta": 2}, "beta=2"),
        (FastVID(), {"anchor_stride": 0}, "anchor_stride=0"),
    ],
)
def test_settings_that_are_refused(method, change, message):
    with pytest.raises(ValueError, match=message):
        replace(method, **change)


def test_videos_that_are_refused():
    video = video_of(drifting())
    with pytest.raises(ValueError, match="31 exceeds the 30 tokens"):
        VCast(min_k=31).select(video)
    for method in (VisionZip(), FastVID()):
        with pytest.raises(ValueError, match="keeps none of 30 tokens"):
            replace(method, keep_ratio=0.01).select(video)
        with pytest.raises(ValueError, match="tower"):
            method.select(replace(video, tower=None))
    with pytest.raises(ValueError, match="pooling head"):
        FastVID().select(video_of(drifting(), head=False))
    with pytest.raises(ValueError, match="returned one tensor"):
        FastVID().select(replace(video, tower=replace(video.tower, head=nn.Identity())))


def test_vcast_leftovers_go_round_unless_official():
    video = video_of(drifting(12))
    fair_T, official_T = (per_frame(VCast(0.3, official=flag).select(video), 12) for flag in (False, True))
    gained_T = (official_T - fair_T).sort().values
    assert gained_T[:-1].max() <= 0
    assert gained_T[-1] > 1


def test_vcast_takes_equal_norms_for_equal():
    unit_TPD = nn.functional.normalize(drifting(2), dim=-1)
    video = video_of(unit_TPD)
    kept_K = VCast(0.3, official=True).select(video).origin_K
    norm_TP = unit_TPD.norm(dim=-1)
    spread_T1 = norm_TP.amax(1, keepdim=True) - norm_TP.amin(1, keepdim=True)
    mean_TD = unit_TPD.mean(1, keepdim=True)
    score_TP = -torch.cosine_similarity(unit_TPD, mean_TD, dim=-1)
    score_TP = score_TP + (norm_TP - norm_TP.amin(1, keepdim=True)) / (spread_T1 + 1e-6)
    best_TK = score_TP.topk(9, dim=-1).indices.sort().values
    assert spread_T1.max() < 1e-6
    assert torch.equal(kept_K.unflatten(0, (2, 9)), best_TK + torch.tensor([[0], [TOKENS]]))


def test_fastvid_anchors_as_many_as_a_lone_frames_take_in_their_own_frame():
    video = video_of(drifting())
    settings = {"keep_ratio": 0.3, "context_share": 0.5}
    alone = FastVID(**settings, segments=1, tau=2).select(video)
    together = FastVID(**settings, segments=1, tau=-2, anchor_stride=1).select(video)
    assert torch.equal(together.origin_K, alone.origin_K)
    torch.testing.assert_close(together.features_KD, alone.features_KD)
    assert torch.equal(together.assign_N, alone.assign_N)
    spread = FastVID(**settings, segments=1, tau=-2, anchor_stride=2).select(video)
    assert not torch.equal(spread.origin_K, alone.origin_K)


def test_scissor_sums_many_rows_exactly():
    row_D = torch.tensor([1e4, 1 / 3, -1 / 7])
    selection = Scissor(tau=0.9).select(video_of(row_D.expand(40, TOKENS, 3)))
    assert torch.equal(selection.features_KD, row_D[None])


def test_fastvid_without_context_keeps_the_salient_rows_unchanged():
    video = video_of(drifting())
    selection = FastVID(keep_ratio=0.3, context_share=0).select(video)
    assert len(selection) == 6 * 9
    assert torch.equal(selection.features_KD, video.features_ND[selection.origin_K])
    assert (selection.assign_N == -1).sum() == 6 * (TOKENS - 9)
    assert len(FastVID(keep_ratio=0.3, context_share=1).select(video)) <= 6 * 9


def test_scissor_blocks_and_chains(monkeypatch):
    video = video_of(drifting())
    whole = Scissor(tau=0.6).select(video)
    monkeypatch.setattr("sharpv.pruners.scissor.COSINES_AT_ONCE", 200)
    blocks = Scissor(tau=0.6).select(video)
    assert torch.equal(whole.assign_N, blocks.assign_N)
    torch.testing.assert_close(whole.features_KD, blocks.features_KD)
    angle_P = torch.arange(TOKENS) * 0.1
    chain_TPD = torch.stack([angle_P.cos(), angle_P.sin()], -1)[None]
    assert len(Scissor(tau=0.99).select(video_of(chain_TPD))) == 1

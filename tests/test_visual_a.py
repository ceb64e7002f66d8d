"""What PruMerge, DyCoke stage 1, DivPrune, PruneVid stage 1 and VidCom2 promise, on made-up videos.

Shape suffixes: T frames, P tokens per frame, D width, R raw patches, K output rows.
"""

import pytest
import torch
from torch.nn import functional
from videos import GRID, TOKENS, WIDTH, drifting, pool, tower_of, video_of

from sharpv.pruners.clustering import refine, run_lengths
from sharpv.pruners.divprune import DivPrune, cosine_distances
from sharpv.pruners.dycoke import DyCokeMerge
from sharpv.pruners.prumerge import PruMerge
from sharpv.pruners.prumerge_plus import PruMergePlus
from sharpv.pruners.prunevid import PruneVidMerge
from sharpv.pruners.vidcom2 import VidCom2
from sharpv.tokens import VideoTokens


def counts_of(selection, video):
    return [round(count, 4) for count in selection.per_frame(video)]


@pytest.mark.parametrize("keep_ratio", [0.04, 0.2, 0.5, 0.93])
@pytest.mark.parametrize("frames", [1, 2, 7, 8])
def test_declared_budget(keep_ratio, frames):
    video = video_of(drifting(frames))
    assert len(DivPrune(keep_ratio).select(video)) == round(keep_ratio * video.total)
    fixed = max(1, int(keep_ratio * TOKENS)) + 1
    for method in (PruMerge(keep_ratio), PruMergePlus(keep_ratio)):
        for has_cls in (False, True):
            assert counts_of(method.select(video_of(drifting(frames), has_cls)), video) == [fixed] * frames
    vidcom2 = VidCom2(keep_ratio)
    share_T = vidcom2.shares(vidcom2.scores(video.features_TPD)[0])[1]
    assert counts_of(vidcom2.select(video), video) == vidcom2.budgets(share_T, video).tolist()
    assert share_T.max() <= 1


@pytest.mark.parametrize("k_dropped", [0, 0.3, 0.5, 0.7, 0.9, 1])
@pytest.mark.parametrize("frames", [5, 6, 8, 11, 32])
def test_dycoke_count_in_closed_form(k_dropped, frames):
    video = video_of(drifting(frames))
    pruned = int((1 - k_dropped) * TOKENS)
    half, windows = frames // 2, -(-max(frames - 4, 0) // 4)
    expected = (half - windows) * TOKENS + (half + windows) * pruned
    assert len(DyCokeMerge(1 - k_dropped).select(video)) == (expected if k_dropped else video.total)


def test_dycoke_switches():
    video = video_of(drifting(9))
    assert counts_of(DyCokeMerge().select(video), video) == [30, 15, 15, 15, 30, 15, 15, 15, 0]
    assert counts_of(DyCokeMerge(odd_frame="keep").select(video), video)[-1] == TOKENS
    eight = video_of(drifting(8))
    assert counts_of(DyCokeMerge().select(eight), eight)[6] == TOKENS
    assert counts_of(DyCokeMerge(window_tail_fix=True).select(eight), eight)[6] == TOKENS // 2
    official, raster = (DyCokeMerge(order=order).select(eight).origin_K for order in ("official", "raster"))
    assert official.diff().min() < 0 < raster.diff().min()
    assert torch.equal(official.sort().values, raster)


def test_dycoke_keeping_all_is_reordered_only_officially():
    video = video_of(drifting(7))
    assert torch.equal(DyCokeMerge(1).select(video).origin_K, torch.arange(video.total))
    selection = DyCokeMerge(1, official=True).select(video)
    assert counts_of(selection, video) == [TOKENS] * 6 + [0]
    order_TP = selection.origin_K.unflatten(0, (6, TOKENS))
    pruned = [1, 2, 3, 5]
    assert [frame for frame, order_P in enumerate(order_TP) if order_P.diff().min() < 0] == pruned
    for frame, reference in zip(pruned, (0, 0, 2, 4), strict=True):
        place_P = order_TP[frame] % TOKENS
        one_PD, other_PD = video.features_TPD[frame], video.features_TPD[reference]
        assert functional.cosine_similarity(one_PD, other_PD, dim=-1)[place_P].diff().min() > -1e-6
    assert DyCokeMerge(1).may_keep_all
    assert DyCokeMerge(1, official=True).requested_ratio(7) == pytest.approx(6 / 7)


@pytest.mark.parametrize(("frames", "officially"), [(1, [0]), (3, [30, 15, 0]), (4, [30, 15, 30, 15])])
def test_dycoke_loses_an_odd_last_frame_below_five_only_officially(frames, officially):
    video = video_of(drifting(frames))
    assert counts_of(DyCokeMerge(official=True).select(video), video) == officially
    assert counts_of(DyCokeMerge().select(video), video)[-1] == (TOKENS if frames % 2 else 15)


def test_without_cls_the_paper_share_is_kept():
    video = video_of(drifting())
    for method in (PruMerge(), PruMergePlus()):
        assert counts_of(method.select(video), video) == [int(0.55 * TOKENS) + 1] * video.frames


@pytest.mark.parametrize("kind", [PruMerge, PruMergePlus])
@pytest.mark.parametrize("has_cls", [False, True])
@pytest.mark.parametrize("options", [{"keep_ratio": 0.4}, {"keep_ratio": 0.4, "order": "raster"}, {}])
def test_prumerge_rows(kind, has_cls, options):
    video = video_of(drifting(), has_cls)
    selection = kind(**options).select(video)
    real_K = selection.origin_K >= 0
    kept_K = selection.origin_K[real_K]
    assert len(kept_K.unique()) == len(kept_K)
    assert torch.equal(selection.assign_N[kept_K], real_K.nonzero().flatten())
    assert (selection.assign_N >= 0).all()
    assert int((~real_K).sum()) == video.frames
    assert (kept_K.diff() > 0).all() or options.get("order") != "raster"


def test_prumerge_reads_the_whole_softmax_over_full_width():
    for has_cls in (False, True):
        tower = tower_of(2, has_cls)
        query_TRC, key_TRC = (x[-1].transpose(1, 2).flatten(2) for x in (tower.queries, tower.keys))
        full_TRR = (query_TRC @ key_TRC.mT / query_TRC.shape[-1] ** 0.5).softmax(-1)
        row_TR = full_TRR[:, 0, 1:] if has_cls else full_TRR.mean(1)
        torch.testing.assert_close(PruMerge().scores(tower)[0], pool(row_TR[..., None])[..., 0])


@pytest.mark.parametrize("outliers", [0, 1, 10, 20, 49])
def test_prumerge_plus_samples_evenly_to_an_exact_budget(outliers):
    side, budget = 14, 107
    order_P = torch.randperm(side**2, generator=torch.Generator().manual_seed(outliers))
    kept_K = PruMergePlus(0.55).kept(order_P, (outliers + 0.5) / side**2, budget)
    assert torch.equal(kept_K[:outliers], order_P[:outliers])
    assert len(kept_K.unique()) == budget
    assert kept_K[outliers:].diff().min() > 0
    rows = torch.bincount(kept_K[outliers:] // side, minlength=side)
    assert rows.min() > 0
    assert torch.bincount(kept_K // side).max() - torch.bincount(kept_K // side).min() <= 4


@pytest.mark.parametrize(("tokens", "official", "last"), [(729, True, 574), (144, True, 142), (729, False, 728)])
def test_prumerge_plus_samples_the_first_575_places_only_officially(tokens, official, last):
    order_P = torch.arange(tokens)
    kept_K = PruMergePlus(official=official).kept(order_P, 1 / 9 + 1e-6, None)
    assert kept_K.max() == last
    assert PruMergePlus(official=True, range_end=100).kept(order_P, 1 / 9 + 1e-6, None).max() < 100


def test_prumerge_without_outliers():
    video = video_of(drifting(), has_cls=True)
    strict = {"fence": 1e6}
    assert counts_of(PruMerge(**strict).select(video), video) == [1] * video.frames
    assert min(counts_of(PruMergePlus(**strict).select(video), video)) > 1


def test_prunevid_rows_are_the_means_of_their_tokens():
    video = video_of(drifting())
    selection = PruneVidMerge().select(video)
    assert len(selection) < video.total
    assert selection.assign_N.unique().tolist() == list(range(len(selection)))
    for row, origin in enumerate(selection.origin_K.tolist()):
        member_N = selection.assign_N == row
        torch.testing.assert_close(selection.features_KD[row], video.features_ND[member_N].mean(0))
        assert member_N.nonzero().flatten().tolist() == [origin] if origin >= 0 else member_N.sum() > 1
    assert selection.group_K.diff().min() >= 0
    assert sum(selection.per_frame(video)) == pytest.approx(len(selection))


def test_prunevid_segments_of_scenes():
    assert run_lengths(refine([4, 4, 1, 4, 4, 4, 2, 2])) == [6, 2]
    assert run_lengths(refine([0, 1, 2, 3])) == [4]
    generator = torch.Generator().manual_seed(1)
    scenes_TPD = torch.randn(3, TOKENS, WIDTH, generator=generator).repeat_interleave(8, 0)
    features_TPD = scenes_TPD + 0.1 * torch.randn(24, TOKENS, WIDTH, generator=generator)
    selection = PruneVidMerge(segment_ratio=3 / 24).select(video_of(features_TPD))
    assert len(selection) == 3 * TOKENS // 2
    assert selection.assign_N.view(3, 8, TOKENS).unique(dim=1).shape[1] == 1


def test_prunevid_orders_clusters_of_one_by_score_only_officially():
    video = video_of(drifting())
    whole = PruneVidMerge(1, 1).select(video)
    official = PruneVidMerge(1, 1, official=True).select(video)
    assert torch.equal(whole.origin_K, torch.arange(video.total))
    assert torch.equal(official.origin_K.sort().values, whole.origin_K)
    assert not torch.equal(official.origin_K, whole.origin_K)
    assert torch.equal(official.features_KD, video.features_ND[official.origin_K])
    assert (official.origin_K // TOKENS).diff().min() >= 0


def test_divprune_keeps_nothing_only_officially():
    video = video_of(drifting(1))
    assert len(DivPrune(0.01, official=True).select(video)) == 0


def test_divprune_repeats_copies_only_officially():
    copies_TPD = drifting(1).repeat(8, 1, 1)
    video = video_of(copies_TPD)
    assert len(DivPrune(0.25).select(video).origin_K.unique()) == round(0.25 * video.total)
    zero_PD = drifting(1)
    zero_PD[0, 7] = 0
    assert DivPrune(0.2, official=True).picks(zero_PD[0])[0].tolist() == [7, 0, 0, 0, 0, 0]


def test_divprune_chooses_the_same_without_the_matrix(monkeypatch):
    features_ND = drifting(8).flatten(0, 1)
    features_ND[17] = features_ND[3]
    for official in (False, True):
        method = DivPrune(0.3, official=official)
        held_K, held_distance_K = method.picks(features_ND)
        with monkeypatch.context() as patch:
            patch.setattr("sharpv.pruners.divprune.MATRIX_BYTES", 0)
            patch.setattr("sharpv.pruners.divprune.BLOCK_ROWS", 7)
            pick_K, distance_K = method.picks(features_ND)
        assert torch.equal(pick_K, held_K)
        torch.testing.assert_close(distance_K, held_distance_K, rtol=0, atol=1e-6)


def test_divprune_mirrors_the_blocks_of_its_matrix(monkeypatch):
    monkeypatch.setattr("sharpv.pruners.divprune.BLOCK_ROWS", 7)
    unit_ND = functional.normalize(drifting(2).flatten(0, 1), dim=-1)
    torch.testing.assert_close(cosine_distances(unit_ND), 1 - unit_ND @ unit_ND.T)


def test_refused_settings():
    for kind in (PruMerge, PruMergePlus, DyCokeMerge, DivPrune, PruneVidMerge, VidCom2):
        with pytest.raises(ValueError, match=r"keep_ratio=1\.2"):
            kind(keep_ratio=1.2)
    for kind, options, complaint in (
        (PruMerge, {"keep_ratio": 0.3, "adaptive": True}, "adaptive"),
        (PruMerge, {"order": "score"}, "order='score'"),
        (PruMerge, {"neighbours": 0}, "neighbours=0"),
        (DyCokeMerge, {"odd_frame": "lose"}, "odd_frame='lose'"),
        (PruneVidMerge, {"segment_ratio": 0}, "segment_ratio=0"),
        (PruneVidMerge, {"noise": -1}, "noise=-1"),
        (VidCom2, {"temperature": 0}, "temperature=0"),
        (VidCom2, {"widths": ()}, "widths"),
    ):
        with pytest.raises(ValueError, match=complaint):
            kind(**options)


def test_refused_videos():
    bare = VideoTokens(drifting(), GRID)
    with pytest.raises(ValueError, match="tower"):
        PruMerge().select(bare)
    with pytest.raises(ValueError, match="keeps none of 30 tokens"):
        DivPrune(0.01).select(video_of(drifting(1)))
    with pytest.raises(ValueError, match="leaves none of 16 channels"):
        VidCom2(channel_ratio=0.01).select(bare)
    with pytest.raises(ValueError, match="official code"):
        PruMergePlus(0.55, official=True).select(video_of(drifting(), has_cls=True))

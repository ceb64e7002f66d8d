"""What PruMerge, DyCoke stage 1, DivPrune, PruneVid stage 1 and VidCom2 promise, on made-up videos.

Shape suffixes: T frames, P tokens per frame, D width, R raw patches, K output rows.
"""

import pytest
import torch
from torch.nn import functional

from sharpv.pruners.divprune import DivPrune
from sharpv.pruners.dycoke import DyCokeMerge
from sharpv.pruners.prumerge import PruMerge, PruMergePlus
from sharpv.pruners.prunevid import PruneVidMerge, refine, run_lengths
from sharpv.pruners.vidcom2 import VidCom2
from sharpv.tokens import Tower, VideoTokens

GRID, WIDTH, RAW = (5, 6), 16, 9
TOKENS = GRID[0] * GRID[1]
METHODS = [
    PruMerge(),
    PruMergePlus(),
    PruMergePlus(adaptive=True),
    PruMergePlus(adaptive=True, official=True),
    DyCokeMerge(),
    DyCokeMerge(0.3, "raster", True, "keep"),
    DivPrune(0.2),
    PruneVidMerge(),
    VidCom2(),
]
SORTED = [DyCokeMerge(order="raster"), DivPrune(0.3), VidCom2(), VidCom2(0.7)]
WHOLE = [PruMerge(1), PruMergePlus(1), DyCokeMerge(1), DivPrune(1), PruneVidMerge(1, 1), VidCom2(1)]


def pool(rows_TRX):
    maps_TXhw = rows_TRX.transpose(1, 2).unflatten(2, (RAW, RAW))
    return functional.interpolate(maps_TXhw, size=GRID, mode="bilinear").flatten(2).transpose(1, 2)


def tower_of(frames, has_cls=False):
    generator = torch.Generator().manual_seed(frames)
    queries, keys = torch.randn(2, frames, 3, RAW**2 + has_cls, 8, generator=generator)
    return Tower({-1: queries}, {-1: keys}, has_cls, torch.zeros(frames, RAW**2, 0), None, pool)


def video_of(features_TPD, has_cls=False):
    return VideoTokens(features_TPD, GRID, seed=7, tower=tower_of(len(features_TPD), has_cls))


def drifting(frames=6):
    """Scenes of three frames whose tokens change a little within a scene."""
    generator = torch.Generator().manual_seed(3)
    scene_TPD = torch.randn(-(-frames // 3), TOKENS, WIDTH, generator=generator).repeat_interleave(3, 0)[:frames]
    return scene_TPD + 0.3 * torch.randn(frames, TOKENS, WIDTH, generator=generator)


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


def test_prumerge_without_outliers():
    video = video_of(drifting(), has_cls=True)
    strict = {"fence": 1e6}
    assert counts_of(PruMerge(**strict).select(video), video) == [1] * video.frames
    assert min(counts_of(PruMergePlus(**strict).select(video), video)) > 1


@pytest.mark.parametrize("method", SORTED, ids=repr)
def test_sorted_unique_in_range(method):
    video = video_of(drifting())
    origin_K = method.select(video).origin_K
    assert origin_K.diff().min() > 0
    assert origin_K.min() >= 0
    assert origin_K.max() < video.total


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


def test_divprune_repeats_copies_only_officially():
    copies_TPD = drifting(1).repeat(8, 1, 1)
    video = video_of(copies_TPD)
    assert len(DivPrune(0.25).select(video).origin_K.unique()) == round(0.25 * video.total)
    zero_PD = drifting(1)
    zero_PD[0, 7] = 0
    assert DivPrune(0.2, official=True).picks(zero_PD[0])[0].tolist() == [7, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("method", WHOLE, ids=repr)
@pytest.mark.parametrize("frames", [1, 7])
def test_keep_everything(method, frames):
    video = video_of(drifting(frames))
    selection = method.select(video)
    assert method.may_keep_all
    assert selection.origin_K.tolist() == list(range(video.total))
    assert torch.equal(selection.rows(video.features_ND), video.features_ND)


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_deterministic(method):
    first, second = (method.select(video_of(drifting())) for _ in range(2))
    assert torch.equal(first.origin_K, second.origin_K)
    assert torch.equal(first.rows(drifting().flatten(0, 1)), second.rows(drifting().flatten(0, 1)))


@pytest.mark.parametrize("method", METHODS, ids=repr)
@pytest.mark.parametrize("has_cls", [False, True])
@pytest.mark.parametrize(
    "features_TPD",
    [drifting(1), drifting(2), drifting(3), drifting(1).expand(8, -1, -1), torch.zeros(8, TOKENS, WIDTH)],
    ids=["one frame", "two frames", "three frames", "identical frames", "zero vectors"],
)
def test_degenerate_videos(method, has_cls, features_TPD):
    video = video_of(features_TPD, has_cls)
    selection = method.select(video)
    assert 0 < len(selection) <= video.total + video.frames
    assert selection.origin_K.max() < video.total
    assert selection.rows(video.features_ND).isfinite().all()
    assert len(selection.per_frame(video)) == video.frames


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_half_precision_features_are_taken(method):
    video = video_of(drifting().bfloat16())
    assert method.select(video).rows(video.features_ND).dtype == torch.bfloat16


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_infinite_features_are_refused(method):
    features_TPD = drifting()
    features_TPD[4, 2, 1] = torch.inf
    with pytest.raises(ValueError, match="frame 4"):
        method.select(video_of(features_TPD))


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

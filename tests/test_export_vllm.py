"""A stage as vLLM's two functions: what its model code asks of them, and that they choose what the stage chooses."""

import importlib.util
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import pytest
import torch
from methods import VISUAL

from sharpv.export.vllm import video_prune
from sharpv.pruners.base import VisualPruner
from sharpv.pruners.controls import DownsampledGrid, FewerFrames, Random, UniformStride
from sharpv.pruners.dycoke import DyCokeMerge
from sharpv.pruners.evs import EVS
from sharpv.pruners.query_relevance import QueryRelevance
from sharpv.pruners.sharpv import VisualSharpV
from sharpv.pruners.sharpv_budget import SharpVBudget
from sharpv.pruners.vcast import VCast
from sharpv.pruners.vidcom2 import VidCom2
from sharpv.pruners.visionzip import VisionZip
from sharpv.tokens import Selection, VideoTokens

MERGE = 2
CONTROLS = [Random(keep_ratio=0.3), Random(keep_ratio=0.3, per_frame=False), UniformStride(keep_ratio=0.3)]
STAGES = [method.stage for method in VISUAL] + [*CONTROLS, FewerFrames(keep_ratio=0.3)]
SHAPES = [(8, 12, 12), (5, 8, 28), (16, 4, 4)]
RATES = [0.1, 0.5, 0.75, 0.9]


class Named:
    """A stage's pair as pytest shows it; None where it has none."""

    def __init__(self, stage):
        self.stage = stage

    def __repr__(self):
        return type(self.stage).__name__

    @cache  # noqa: B019
    def pair(self):
        try:
            return video_prune(self.stage)
        except ValueError:
            return None


EXPORTED = [named for named in map(Named, STAGES) if named.pair() is not None]


def embeddings(shape, seed=0):
    frames, height, width = shape
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(frames, height * width // MERGE**2, 48, generator=generator).cumsum(0).flatten(0, 1)


def serve(pair, rows_ND, shape, q):
    """What vLLM's processor and model do with a pair: placeholders by the count, then rows by the mask into them."""
    frames, height, width = shape
    per_frame = (height // MERGE) * (width // MERGE)
    placeholders = pair.compute_retained_tokens_count(tokens_per_frame=per_frame, num_frames=frames, q=q)
    mask_N = pair.compute_retention_mask(rows_ND, list(shape), spatial_merge_size=MERGE, q=q)
    assert (mask_N.dtype, mask_N.shape, mask_N.device) == (torch.bool, (len(rows_ND),), rows_ND.device)
    fed_KD = rows_ND[mask_N]
    assert len(fed_KD) == placeholders
    return fed_KD, mask_N


def test_methods_that_choose_among_projected_tokens_at_a_ratio_are_exported():
    exported = {type(named.stage) for named in EXPORTED}
    assert exported >= {EVS, SharpVBudget, VCast, VidCom2, DyCokeMerge, Random, UniformStride, FewerFrames}
    for stage in STAGES:
        if stage.tower_layers is not None or stage.reads_question or getattr(stage, "keep_ratio", None) is None:
            assert type(stage) not in exported


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("named", EXPORTED, ids=repr)
def test_the_mask_has_the_count_and_is_the_stages_own_selection(named, shape):
    grid = shape[1] // MERGE, shape[2] // MERGE
    for q in RATES:
        rows_ND = embeddings(shape)
        _, mask_N = serve(named.pair(), rows_ND, shape, q)
        video = VideoTokens(rows_ND.unflatten(0, (shape[0], -1)), grid)
        own_N = replace(named.stage, keep_ratio=1 - q).select(video).represented_N(len(rows_ND))
        if not hasattr(named.stage, "importance"):
            assert torch.equal(mask_N, own_N)
        else:
            # Reconciled: only added to, or only taken from.
            assert bool((mask_N & ~own_N).any()) + bool((own_N & ~mask_N).any()) < 2


def test_reconciling_adds_the_most_important_and_drops_the_least():
    pair, shape = video_prune(VidCom2()), SHAPES[0]
    changed = set()
    for seed in range(6):
        rows_ND = embeddings(shape, seed)
        for q in RATES:
            _, mask_N = serve(pair, rows_ND, shape, q)
            stage = VidCom2(1 - q)
            video = VideoTokens(rows_ND.unflatten(0, (shape[0], -1)), (6, 6))
            own_N = stage.select(video).represented_N(len(rows_ND))
            importance_N = stage.importance(video.features_TPD).flatten()
            added_N, dropped_N = mask_N & ~own_N, own_N & ~mask_N
            if added_N.any():
                assert importance_N[added_N].min() >= importance_N[~mask_N].max()
                changed.add("added")
            if dropped_N.any():
                assert importance_N[dropped_N].max() <= importance_N[mask_N].min()
                changed.add("dropped")
    assert changed == {"added", "dropped"}


@pytest.mark.parametrize(
    ("stage", "words"),
    [
        (VisualSharpV(), "VisualSharpV has no keep_ratio.*set budget"),
        (Random(reference=VisualSharpV()), "Random has no keep_ratio"),
        (VisionZip(), "VisionZip reads the vision tower"),
        (QueryRelevance(), "QueryRelevance reads the question"),
        (DownsampledGrid(keep_ratio=0.3), "made of several tokens"),
    ],
)
def test_what_no_pair_can_stand_for_is_refused_with_the_reason(stage, words):
    with pytest.raises(ValueError, match=words):
        video_prune(stage)


@dataclass
class Loud(VisualPruner):
    """Keeps what is louder than the video's mean: as many as there are."""

    keep_ratio: float = 0.5

    def select(self, video):
        norm_N = video.features_ND.norm(dim=-1)
        return Selection((norm_N > norm_N.mean()).nonzero().flatten())


def test_a_count_that_follows_from_the_video_needs_an_importance(monkeypatch):
    with pytest.raises(ValueError, match="keeps more of one video than of another.*no importance"):
        video_prune(Loud())
    monkeypatch.setattr("sharpv.export.vllm._has_fixed_count", lambda stage: True)
    with pytest.raises(ValueError, match="where the prompt has .* placeholders"):
        serve(video_prune(Loud()), embeddings(SHAPES[0], 3), SHAPES[0], 0.5)


def test_levels_behind_the_tokens_are_left_out_by_their_width():
    rows_ND = embeddings(SHAPES[0])
    behind_ND = torch.cat([rows_ND, torch.randn(len(rows_ND), 96) * 50], 1)
    pair, narrow = video_prune(VCast()), video_prune(VCast(), width=rows_ND.shape[1])
    _, expected_N = serve(pair, rows_ND, SHAPES[0], 0.75)
    assert torch.equal(serve(narrow, behind_ND, SHAPES[0], 0.75)[1], expected_N)
    assert not torch.equal(serve(pair, behind_ND, SHAPES[0], 0.75)[1], expected_N)


@pytest.mark.parametrize("q", [-0.1, 1.0])
@pytest.mark.parametrize("stage", [EVS(), VidCom2()], ids=["EVS", "VidCom2"])
def test_a_rate_that_is_none_is_refused(stage, q):
    with pytest.raises(ValueError, match="video-pruning-rate"):
        video_prune(stage).compute_retained_tokens_count(36, 8, q)


@pytest.mark.parametrize(("name", "stage"), [("evs", EVS()), ("vidcom2", VidCom2())])
def test_the_masks_are_those_of_the_installed_vllm(name, stage):
    """vLLM's own functions need nothing but torch, so they are read from their file, wherever vLLM is installed."""
    vllm = importlib.util.find_spec("vllm")
    if vllm is None or vllm.origin is None:
        pytest.skip("vLLM is not installed: PYTHONPATH may name the folder of an unpacked wheel")
    file = Path(vllm.origin).parent / "multimodal" / "video_prune" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, file)
    theirs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(theirs)
    pair = video_prune(stage)
    for shape in [*SHAPES, (1, 12, 12), (2, 4, 28)]:
        tokens = shape[1] * shape[2] // MERGE**2
        for q in [0.0, 0.3, 0.95, *RATES]:
            _, mask_N = serve(pair, embeddings(shape), shape, q)
            assert pair[0](tokens, shape[0], q) == theirs.compute_retained_tokens_count(tokens, shape[0], q)
            assert torch.equal(mask_N, theirs.compute_retention_mask(embeddings(shape), shape, MERGE, q))

"""Controls match the budget of what they are compared with, sample by sample."""

import pytest
import torch

from sharpv import VideoTokens, VisualSharpV
from sharpv.pruners.controls import Blind, DownsampledGrid, FewerFrames, Random, UniformStride


def video(seed=0):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(1, 36, 16, generator=generator) + 0.4 * torch.randn(8, 36, 16, generator=generator)
    return VideoTokens(features, (6, 6), seed=seed)


REFERENCE = VisualSharpV()


def test_random_per_frame_has_the_reference_counts_of_every_frame():
    for seed in range(5):
        assert Random(REFERENCE).select(video(seed)).per_frame(video(seed)) == REFERENCE.select(video(seed)).per_frame(
            video(seed)
        )


@pytest.mark.parametrize("control", [Random(REFERENCE, per_frame=False), UniformStride(REFERENCE)])
def test_whole_video_controls_have_the_reference_total(control):
    for seed in range(5):
        kept = control.select(video(seed)).origin_K
        assert len(kept) == len(REFERENCE.select(video(seed)))
        assert kept.tolist() == sorted(set(kept.tolist()))
        assert kept.min() >= 0
        assert kept.max() < video().total


@pytest.mark.parametrize("control", [FewerFrames(REFERENCE), DownsampledGrid(REFERENCE)])
def test_controls_that_come_in_steps_take_the_largest_budget_not_above_the_reference(control):
    for seed in range(5):
        kept, budget = len(control.select(video(seed))), len(REFERENCE.select(video(seed)))
        assert kept <= budget
        step = 36 if isinstance(control, FewerFrames) else 8 * 11
        assert kept > budget - step or kept == min(36, budget)


def test_a_random_control_repeats_itself_and_differs_between_seeds_and_samples():
    first = Random(REFERENCE).select(video()).origin_K.tolist()
    assert first == Random(REFERENCE).select(video()).origin_K.tolist()
    assert first != Random(REFERENCE, seed=1).select(video()).origin_K.tolist()


def test_downsampled_rows_are_means_of_their_cells():
    one = video(2)
    selection = DownsampledGrid(keep_ratio=0.25).select(one)
    for row in (0, 5, len(selection) - 1):
        members = one.features_ND[selection.assign_N == row]
        torch.testing.assert_close(selection.features_KD[row], members.mean(0))


def test_fewer_frames_says_which_frames_alone_would_be_encoded():
    control = FewerFrames(keep_ratio=0.5)
    assert len(control.encoded_frames(video())) == 4
    assert sum(count > 0 for count in control.select(video()).per_frame(video())) == 4


def test_blind_keeps_nothing():
    assert len(Blind().select(video())) == 0


def test_a_control_needs_a_budget_of_which_a_share_given_goes_before_a_reference():
    with pytest.raises(ValueError, match="got neither"):
        Random()
    assert UniformStride(REFERENCE, keep_ratio=0.5) == UniformStride(keep_ratio=0.5)
    with pytest.raises(ValueError, match="1.5"):
        UniformStride(keep_ratio=1.5)

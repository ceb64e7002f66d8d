"""SharpV's formulas against an independent float64 version, and at the edges of their domain."""

import numpy as np
import pytest
import torch

from sharpv import VideoTokens, VisualSharpV


def reference(features, mode="adaptive", w=1.0, threshold=1.6, dissimilarity="euclidean", first="spatial"):
    """Kept indices by plain float64 numpy, written from the paper token by token."""

    def unit(vector):
        length = np.sqrt((vector**2).sum())
        return vector / length if length > 0 else vector

    def distance(a, b):
        a, b = unit(a), unit(b)
        return np.sqrt(((a - b) ** 2).sum()) if dissimilarity == "euclidean" else 1 - (a * b).sum()

    frames, tokens, _ = features.shape
    kept = []
    for t in range(frames):
        mean = features[t].mean(0)
        spatial = np.array([distance(features[t, p], mean) for p in range(tokens)])
        motion = np.array([distance(features[t, p], features[t - 1, p]) for p in range(tokens)]) if t else spatial
        temporal = motion if t or first == "spatial" else np.zeros(tokens)
        importance = temporal + w * spatial
        if mode == "manual":
            chosen = [p for p in range(tokens) if importance[p] > threshold]
        else:
            count = int(np.round(tokens * np.sqrt((motion**2).sum()) / (2 * np.sqrt(tokens))))
            chosen = sorted(np.argsort(-importance, kind="stable")[:count].tolist())
        kept += [t * tokens + p for p in chosen]
    return kept


def video(features, grid=(3, 4)):
    return VideoTokens(torch.as_tensor(features, dtype=torch.float32), grid)


def moving_features(seed, frames=6, tokens=12, width=16):
    rng = np.random.default_rng(seed)
    still = rng.normal(size=(1, tokens, width))
    return still + rng.normal(size=(frames, tokens, width)) * rng.uniform(0, 1.5, size=(frames, 1, 1))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"w": 0.5},
        {"mode": "manual"},
        {"mode": "manual", "threshold": 1.0, "dissimilarity": "cosine"},
        {"mode": "manual", "first": "zero", "threshold": 1.2},
        {"first": "zero", "w": 2.0},
    ],
)
def test_selection_equals_the_float64_formulas(seed, settings):
    names = {"w": "spatial_weight", "first": "first_frame_temporal"}
    pruner = VisualSharpV(**{names.get(name, name): value for name, value in settings.items()})
    features = moving_features(seed)
    assert pruner.select(video(features)).origin_K.tolist() == reference(
        features.astype(np.float32).astype(np.float64), **settings
    )


def test_a_frame_identical_to_the_one_before_keeps_nothing_in_adaptive_mode():
    frame = np.random.default_rng(0).normal(size=(1, 12, 16))
    selection = VisualSharpV().select(video(np.repeat(frame, 5, axis=0)))
    per_frame = selection.per_frame(video(np.repeat(frame, 5, axis=0)))
    assert per_frame[0] > 0
    assert per_frame[1:] == [0, 0, 0, 0]


def test_one_frame_is_pruned_by_its_spatial_dissimilarity():
    features = moving_features(1, frames=1)
    assert VisualSharpV().select(video(features)).origin_K.tolist() == reference(features)


def test_one_token_a_frame_works():
    features = moving_features(2, tokens=1)
    assert VisualSharpV().select(video(features, (1, 1))).origin_K.tolist() == reference(features)


def test_zero_vectors_are_as_different_as_their_distance_says():
    features = moving_features(3)
    features[2, 4:7] = 0
    kept = VisualSharpV().select(video(features)).origin_K.tolist()
    assert kept == reference(features.astype(np.float32).astype(np.float64))


def test_an_all_zero_frame_differs_by_one_from_its_neighbours():
    features = moving_features(3)
    features[4] = 0
    per_frame = VisualSharpV().select(video(features)).per_frame(video(features))
    assert per_frame[4] == per_frame[5] == 6


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_features_that_are_not_finite_name_the_frame(value):
    features = moving_features(4)
    features[3, 5, 2] = value
    with pytest.raises(ValueError, match="frame 3"):
        VisualSharpV().select(video(features))


def test_a_larger_threshold_keeps_fewer_tokens():
    counts = [
        len(VisualSharpV(mode="manual", threshold=k).select(video(moving_features(5)))) for k in (0.5, 1.0, 1.6, 2.5)
    ]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[-1]


def test_an_unknown_mode_names_the_valid_ones():
    with pytest.raises(ValueError, match="adaptive"):
        VisualSharpV(mode="automatic")

"""Intervals and tests of the reports against brute force, closed forms and known values."""

import time
from itertools import product

import numpy as np
import pytest
from scipy.stats import binomtest, norm

from sharpv.reports.statistics import (
    bootstrap_interval,
    clustered_standard_error,
    holm,
    mcnemar_p,
    paired_interval,
    sign_flip_p,
    smallest_detectable_difference,
)


def clustered(rng, videos, per_video, spread=1.0):
    """Questions whose videos have their own level: the plain (unclustered) error would be far too small."""
    level_C = rng.normal(0, spread, videos)
    values_N = np.repeat(level_C, per_video) + rng.normal(0, 0.3, videos * per_video)
    return values_N, np.repeat(np.arange(videos), per_video)


def test_the_macro_mean_weighs_groups_not_questions():
    values, groups, videos = np.array([1, 1, 1, 0, 0.5]), np.array(["a", "a", "a", "a", "b"]), np.arange(5)
    assert bootstrap_interval(values, videos).estimate == pytest.approx(0.7)
    assert bootstrap_interval(values, videos, groups).estimate == pytest.approx((0.75 + 0.5) / 2)
    weighted = bootstrap_interval(values, videos, groups, {"a": 0.25, "b": 0.75})
    assert weighted.estimate == pytest.approx(0.25 * 0.75 + 0.75 * 0.5)


def test_bootstrap_equals_a_loop_that_draws_whole_videos_within_each_group():
    rng = np.random.default_rng(1)
    values = rng.integers(0, 2, 90).astype(float)
    videos = rng.integers(0, 25, 90)
    groups = np.where(np.arange(90) < 60, "a", "b")
    draws = []
    for _ in range(4000):
        means = []
        for group in ("a", "b"):
            inside = groups == group
            names = np.unique(videos[inside])
            chosen = rng.choice(names, len(names))
            means.append(np.concatenate([values[inside & (videos == name)] for name in chosen]).mean())
        draws.append(np.mean(means))
    interval = bootstrap_interval(values, videos, groups, resamples=20_000)
    assert interval.estimate == pytest.approx(np.mean([values[groups == name].mean() for name in ("a", "b")]))
    assert [interval.low, interval.high] == pytest.approx(np.percentile(draws, [2.5, 97.5]), abs=0.01)


def test_bootstrap_interval_covers_the_truth_about_95_times_in_100():
    rng = np.random.default_rng(2)
    covered = 0
    for seed in range(300):
        values, videos = clustered(rng, videos=60, per_video=4)
        interval = bootstrap_interval(values, videos, resamples=400, seed=seed)
        covered += interval.low <= 0 <= interval.high
    assert 0.90 <= covered / 300 <= 0.985


def test_questions_of_one_video_widen_the_interval():
    values, videos = clustered(np.random.default_rng(3), videos=40, per_video=10)
    together = bootstrap_interval(values, videos)
    apart = bootstrap_interval(values, np.arange(len(values)))
    assert together.high - together.low > 2 * (apart.high - apart.low)


def test_same_seed_same_interval_and_another_seed_another():
    values, videos = clustered(np.random.default_rng(4), videos=30, per_video=2)
    assert bootstrap_interval(values, videos, seed=5) == bootstrap_interval(values, videos, seed=5)
    assert bootstrap_interval(values, videos, seed=5) != bootstrap_interval(values, videos, seed=6)


def test_paired_interval_is_the_bootstrap_of_the_difference_and_positive_when_ours_is_better():
    rng = np.random.default_rng(6)
    dense = rng.integers(0, 2, 200).astype(float)
    ours, videos = np.maximum(dense, rng.integers(0, 2, 200)), np.arange(200) // 2
    interval = paired_interval(ours, dense, videos, seed=3)
    assert interval == bootstrap_interval(ours - dense, videos, seed=3)
    assert interval.low > 0


def test_a_group_of_one_video_has_a_mean_but_no_interval():
    interval = bootstrap_interval(np.array([1.0, 0, 1]), np.array(["x", "x", "x"]))
    assert interval.estimate == pytest.approx(2 / 3)
    assert np.isnan(interval.low)
    assert np.isnan(interval.high)
    assert np.isnan(clustered_standard_error(np.array([1.0, 0, 1]), np.array(["x", "x", "x"])))


def test_ten_thousand_resamples_of_thousands_of_questions_take_well_under_a_second():
    rng = np.random.default_rng(7)
    values, videos = rng.integers(0, 4, 6000) / 3, np.arange(6000) // 3
    started = time.process_time()
    bootstrap_interval(values, videos, rng.integers(0, 20, 6000))
    assert time.process_time() - started < 1.0


def test_values_of_many_kinds_and_their_rounding_to_few_have_the_same_interval():
    values, videos = np.random.default_rng(14).normal(size=1200), np.arange(1200) // 2
    many, few = bootstrap_interval(values, videos), bootstrap_interval(values.round(1), videos)
    assert len(np.unique(np.bincount(videos, values.round(1)).round(10))) < 200
    assert [many.low, many.high] == pytest.approx([few.low, few.high], abs=0.005)


def test_standard_error_of_one_question_a_video_is_the_textbook_one():
    values = np.random.default_rng(8).normal(size=50)
    assert clustered_standard_error(values, np.arange(50)) == pytest.approx(values.std(ddof=1) / 50**0.5)


def test_standard_error_agrees_with_the_spread_of_the_bootstrap():
    rng = np.random.default_rng(9)
    values, videos = clustered(rng, videos=150, per_video=3)
    groups = np.where(videos < 100, "a", "b")
    interval = bootstrap_interval(values, videos, groups)
    error = clustered_standard_error(values, videos, groups)
    assert (interval.high - interval.low) / (2 * norm.ppf(0.975)) == pytest.approx(error, rel=0.05)


def test_sign_flip_equals_the_enumeration_of_all_flips():
    rng = np.random.default_rng(10)
    difference, videos = rng.normal(0.4, 1, 30), np.arange(30) % 10
    sums = np.bincount(videos, difference)
    outcomes = np.array([np.dot(signs, sums) for signs in product([-1, 1], repeat=10)])
    expected = np.mean(np.abs(outcomes) >= abs(sums.sum()) - 1e-9)
    assert sign_flip_p(difference, videos) == pytest.approx(expected)


def test_sign_flip_with_one_question_a_video_is_the_exact_sign_test():
    difference = np.concatenate([np.ones(14), -np.ones(5), np.zeros(481)])
    assert sign_flip_p(difference, np.arange(500)) == pytest.approx(binomtest(14, 19).pvalue)


def test_sign_flip_monte_carlo_agrees_with_the_normal_limit_and_is_never_zero():
    rng = np.random.default_rng(11)
    difference = rng.normal(0.08, 1, 800)
    z = abs(difference.sum()) / np.sqrt(np.sum(difference**2))
    p = sign_flip_p(difference, np.arange(800))
    assert p == pytest.approx(2 * norm.sf(z), abs=0.015)
    assert p == sign_flip_p(difference, np.arange(800))
    assert sign_flip_p(difference + 10, np.arange(800)) == pytest.approx(1 / 10_001)


def test_sign_flip_turns_a_video_over_all_groups_at_once_with_the_weights_of_the_macro_mean():
    difference = np.array([1.0, 1, 1, -1, 0.5, 0.25])
    videos, groups = np.array(["x", "y", "z", "x", "y", "z"]), np.array(list("aaabbb"))
    weights = {"a": 0.25, "b": 0.75}
    effect = {name: 0.25 * difference[i] / 3 + 0.75 * difference[i + 3] / 3 for i, name in enumerate("xyz")}
    outcomes = [abs(np.dot(signs, list(effect.values()))) for signs in product([-1, 1], repeat=3)]
    expected = np.mean(np.array(outcomes) >= abs(sum(effect.values())) - 1e-12)
    assert sign_flip_p(difference, videos, groups, weights) == pytest.approx(expected)


def test_sign_flip_is_uniform_enough_under_the_null():
    rng = np.random.default_rng(12)
    p = np.array([sign_flip_p(rng.normal(size=12), np.arange(12)) for _ in range(300)])
    assert np.mean(p <= 0.05) <= 0.09
    assert 0.4 <= p.mean() <= 0.6


def test_nothing_differs_gives_p_1():
    assert sign_flip_p(np.zeros(8), np.arange(8)) == 1.0
    assert mcnemar_p(np.ones(8), np.ones(8)) == 1.0


def test_mcnemar_is_the_binomial_test_of_the_discordant_pairs():
    ours = np.array([1] * 40 + [0] * 20 + [1] * 6 + [0] * 15)
    dense = np.array([1] * 40 + [0] * 20 + [0] * 6 + [1] * 15)
    assert mcnemar_p(ours, dense) == pytest.approx(binomtest(6, 21).pvalue)
    assert mcnemar_p(ours, dense) == pytest.approx(0.0784, abs=5e-4)


def test_mcnemar_refuses_averages_over_seeds():
    assert np.isnan(mcnemar_p(np.array([1, 1 / 3]), np.array([1.0, 0])))


def test_holm_by_hand_and_without_the_missing():
    assert holm(np.array([0.01, 0.04, 0.03, np.nan])).tolist() == pytest.approx([0.03, 0.06, 0.06, np.nan], nan_ok=True)
    assert np.isnan(holm(np.array([np.nan]))).all()


def test_the_smallest_detectable_difference_is_found_in_80_of_100_runs():
    rng = np.random.default_rng(13)
    error = 1 / 200**0.5
    shift = smallest_detectable_difference(error)
    assert shift == pytest.approx(2.8016 * error, rel=1e-4)
    found = [abs(rng.normal(shift, 1, 200).mean()) / error > norm.ppf(0.975) for _ in range(2000)]
    assert np.mean(found) == pytest.approx(0.8, abs=0.03)


def test_answers_that_never_differ_have_no_detectable_difference():
    assert np.isnan(smallest_detectable_difference(clustered_standard_error(np.zeros(9), np.arange(9))))


def test_wrong_input_names_the_value_and_the_way_out():
    with pytest.raises(ValueError, match="3 values, 2 videos"):
        bootstrap_interval(np.ones(3), np.arange(2))
    with pytest.raises(ValueError, match="1 of 2 values are NaN"):
        bootstrap_interval(np.array([1, np.nan]), np.arange(2))
    with pytest.raises(ValueError, match="must give each of the groups"):
        bootstrap_interval(np.ones(2), np.arange(2), np.array(["a", "b"]), {"a": 1.0})
    with pytest.raises(ValueError, match="the same questions"):
        mcnemar_p(np.ones(3), np.ones(2))

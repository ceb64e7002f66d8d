"""The reports' statistics against scipy and statsmodels, which compute the same thing another way."""

import numpy as np
import pytest
import statsmodels.api as sm
from scipy.stats import bootstrap, permutation_test
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from sharpv.reports.statistics import bootstrap_interval, clustered_standard_error, holm, mcnemar_p, sign_flip_p


def test_sign_flip_is_scipys_permutation_test_of_paired_samples():
    rng = np.random.default_rng(0)
    ours, dense = rng.normal(0.4, 1, 12), rng.normal(0, 1, 12)
    peer = permutation_test(
        (ours, dense),
        lambda a, b: np.mean(a - b),
        permutation_type="samples",
        n_resamples=np.inf,
        alternative="two-sided",
    )
    assert sign_flip_p(ours - dense, np.arange(12)) == pytest.approx(peer.pvalue)


def test_the_interval_of_one_question_a_video_is_scipys_percentile_bootstrap():
    values = np.random.default_rng(1).gamma(2, 1, 120)
    ours = bootstrap_interval(values, np.arange(120), resamples=20_000)
    peer = bootstrap((values,), np.mean, n_resamples=5_000, method="percentile", rng=np.random.default_rng(2))
    assert [ours.low, ours.high] == pytest.approx(list(peer.confidence_interval), abs=0.03)


def test_the_standard_error_is_statsmodels_cluster_robust_one():
    rng = np.random.default_rng(3)
    videos = rng.integers(0, 30, 200)
    values = rng.normal(size=30)[videos] + rng.normal(size=200)
    peer = sm.OLS(values, np.ones(200)).fit(cov_type="cluster", cov_kwds={"groups": videos, "use_correction": False})
    clusters = len(np.unique(videos))
    assert clustered_standard_error(values, videos) == pytest.approx(peer.bse[0] * (clusters / (clusters - 1)) ** 0.5)


def test_mcnemar_is_statsmodels_on_the_table_counted_by_hand():
    ours, dense = np.repeat([1, 1, 0, 0], [9, 7, 2, 5]), np.repeat([1, 0, 1, 0], [9, 7, 2, 5])
    assert mcnemar_p(ours, dense) == pytest.approx(mcnemar([[9, 7], [2, 5]], exact=True).pvalue)
    assert mcnemar_p(dense, ours) == mcnemar_p(ours, dense)


def test_holm_is_statsmodels_and_rejects_no_more_than_the_raw_values():
    p = np.random.default_rng(4).random(15) ** 3
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])
    assert (holm(p) >= p).all()
    assert (np.diff(holm(p)[np.argsort(p)]) >= 0).all()

"""Intervals and tests for accuracies of questions that share videos.

Suffixes: N questions, C videos (clusters) of a group, G groups, B resamples. A group is a stratum of a macro average: a
sub-task, or a whole benchmark. `values_N` has one entry a question, in any unit; the answers come back in that unit.
A method of several seeds is averaged per question before it comes here.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import nan, prod

import numpy as np
from scipy.stats import binom, norm
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

RESAMPLES = 10_000
EXACT_LIMIT = 2**16
FEW_KINDS = 200
BLOCK = 500


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95% interval, all in the unit of the values; NaN ends where no interval exists."""

    estimate: float
    low: float
    high: float


@dataclass(frozen=True)
class _Group:
    """A group with its videos, and for each of them the sum and the number of its values (all of length C)."""

    weight: float
    videos: np.ndarray
    sums: np.ndarray
    counts: np.ndarray

    @property
    def mean(self) -> float:
        return float(self.sums.sum() / self.counts.sum())


def bootstrap_interval(
    values_N: np.ndarray,
    videos_N: np.ndarray,
    groups_N: np.ndarray | None = None,
    weights: Mapping | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Macro mean with its percentile 95% interval: whole videos are drawn with replacement within each group.

    The macro mean is the weighted mean of the group means, in the unit of the values; one group is the plain mean over
    questions. `weights` maps each group to its share (they sum to 1); None weighs all groups the same.

    Cluster bootstrap (Davison and Hinkley 1997), each group mean a ratio of resampled sums. NaN ends where a
    group has fewer than two videos. Below about 20 videos a group percentile intervals are too narrow; equal values
    everywhere give width 0. A video that occurs in two groups counts as two independent ones.
    """
    groups = list(_grouped(values_N, videos_N, groups_N, weights))
    estimate = sum(group.weight * group.mean for group in groups)
    if any(len(group.sums) < 2 for group in groups):
        return Interval(estimate, nan, nan)
    rng = np.random.default_rng(seed)
    draws_B = np.zeros(resamples)
    for group in groups:
        draws_B += group.weight * _resampled_means(group, resamples, rng)
    low, high = np.percentile(draws_B, [2.5, 97.5])
    return Interval(estimate, float(low), float(high))


def paired_interval(ours_N: np.ndarray, dense_N: np.ndarray, videos_N: np.ndarray, **options) -> Interval:
    """Macro mean of ours - dense over the same questions with its interval; positive means that ours is better.

    `options` are those of `bootstrap_interval`: groups_N, weights, resamples, seed.
    """
    return bootstrap_interval(_difference(ours_N, dense_N), videos_N, **options)


def sign_flip_p(
    difference_N: np.ndarray,
    videos_N: np.ndarray,
    groups_N: np.ndarray | None = None,
    weights: Mapping | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> float:
    """Two-sided p of "ours and dense are exchangeable within a video", statistic: the macro mean of the differences.

    All differences of a video (over all groups) change sign together (Good 2005). Exact where the distinct
    outcomes are few: always up to 16 videos that differ, and for many more where their differences have the same size;
    else seeded Monte Carlo, p = (1 + extreme draws) / (1 + draws). 1 where nothing differs.
    """
    groups = list(_grouped(difference_N, videos_N, groups_N, weights))
    videos = np.concatenate([group.videos for group in groups])
    shares = np.concatenate([group.weight * group.sums / group.counts.sum() for group in groups])
    effect_C = np.bincount(np.unique(videos, return_inverse=True)[1], shares)
    scale = np.abs(effect_C).max()
    if scale == 0:
        return 1.0
    effect_C = (effect_C / scale).round(10)
    sizes_K, counts_K = np.unique(np.abs(effect_C), return_counts=True)
    sizes_K, counts_K = sizes_K[sizes_K > 0], counts_K[sizes_K > 0]
    extreme = abs(effect_C.sum()) - 1e-8
    if prod(int(count) + 1 for count in counts_K) <= EXACT_LIMIT:
        return _exact_sign_flip(sizes_K, counts_K, extreme)
    rng = np.random.default_rng(seed)
    found = 0
    for block in _blocks(resamples):
        flips_BK = 2 * rng.binomial(counts_K, 0.5, size=(block, len(counts_K))) - counts_K
        found += int(np.count_nonzero(np.abs(flips_BK @ sizes_K) >= extreme))
    return float((1 + found) / (1 + resamples))


def mcnemar_p(ours_N: np.ndarray, dense_N: np.ndarray) -> float:
    """Two-sided exact McNemar p for 0/1 answers to the same questions (statsmodels); videos are not clustered here.

    NaN where an answer is neither 0 nor 1, as in an average over seeds.
    """
    _difference(ours_N, dense_N)
    if not np.isin(ours_N, [0, 1]).all() or not np.isin(dense_N, [0, 1]).all():
        return nan
    ours, dense = np.asarray(ours_N, dtype=bool), np.asarray(dense_N, dtype=bool)
    table = [[np.sum(ours & dense), np.sum(ours & ~dense)], [np.sum(~ours & dense), np.sum(~ours & ~dense)]]
    return float(mcnemar(table, exact=True).pvalue)


def clustered_standard_error(
    values_N: np.ndarray, videos_N: np.ndarray, groups_N: np.ndarray | None = None, weights: Mapping | None = None
) -> float:
    """Standard error of the macro mean, in the unit of the values, from residuals summed per video.

    Cluster-robust with the C / (C - 1) correction (Cameron and Miller 2015); groups are
    independent. NaN where a group has fewer than two videos.
    """
    variance = 0.0
    for group in _grouped(values_N, videos_N, groups_N, weights):
        clusters = len(group.sums)
        if clusters < 2:
            return nan
        residual_C = (group.sums - group.mean * group.counts) / group.counts.sum()
        variance += group.weight**2 * clusters / (clusters - 1) * float(residual_C @ residual_C)
    return variance**0.5


def smallest_detectable_difference(standard_error: float, power: float = 0.8, level: float = 0.05) -> float:
    """The true difference that a two-sided test at `level` would find with this power, in the unit of the error.

    (z_{1 - level / 2} + z_power) times the standard error of the paired difference (Miller 2024,
    arXiv:2411.00640). NaN for an error of 0: answers that never differ do not tell how much they vary.
    """
    if not standard_error > 0:
        return nan
    return float((norm.ppf(1 - level / 2) + norm.ppf(power)) * standard_error)


def holm(p_R: np.ndarray) -> np.ndarray:
    """Holm's step-down adjusted p values (statsmodels), over all entries that are not NaN; NaN stays NaN."""
    adjusted_R = np.array(p_R, dtype=float)
    tested_R = ~np.isnan(adjusted_R)
    if tested_R.any():
        adjusted_R[tested_R] = multipletests(adjusted_R[tested_R], method="holm")[1]
    return adjusted_R


def _resampled_means(group: _Group, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Means of the group over videos drawn with replacement. Videos that agree in sum and count are exchangeable, so
    where such kinds are few the counts of each are drawn at once: the same distribution, far cheaper."""
    clusters = len(group.sums)
    kinds, multiplicity = np.unique(np.column_stack([group.sums.round(10), group.counts]), axis=0, return_counts=True)
    means = []
    for block in _blocks(resamples):
        if len(kinds) <= FEW_KINDS:
            picks_BK = rng.multinomial(clusters, multiplicity / clusters, size=block).astype(float)
            means.append((picks_BK @ kinds[:, 0]) / (picks_BK @ kinds[:, 1]))
        else:
            picks_BC = rng.integers(clusters, size=(block, clusters))
            means.append(group.sums[picks_BC].sum(axis=1) / group.counts[picks_BC].sum(axis=1))
    return np.concatenate(means)


def _blocks(resamples: int) -> list[int]:
    return [min(BLOCK, resamples - done) for done in range(0, resamples, BLOCK)]


def _exact_sign_flip(sizes_K: np.ndarray, counts_K: np.ndarray, extreme: float) -> float:
    totals, probability = np.zeros(1), np.ones(1)
    for size, count in zip(sizes_K, counts_K, strict=True):
        positive = np.arange(count + 1)
        totals = np.add.outer(totals, size * (2 * positive - count)).ravel()
        probability = np.multiply.outer(probability, binom.pmf(positive, count, 0.5)).ravel()
    return min(1.0, float(probability[np.abs(totals) >= extreme].sum()))


def _difference(ours_N: np.ndarray, dense_N: np.ndarray) -> np.ndarray:
    if np.shape(ours_N) != np.shape(dense_N):
        raise ValueError(
            f"{np.shape(ours_N)} answers against {np.shape(dense_N)} dense ones: pass the same questions of both"
        )
    return np.asarray(ours_N, dtype=float) - np.asarray(dense_N, dtype=float)


def _grouped(
    values_N: np.ndarray, videos_N: np.ndarray, groups_N: np.ndarray | None, weights: Mapping | None
) -> Iterator[_Group]:
    values_N, videos_N = np.asarray(values_N, dtype=float), np.asarray(videos_N)
    groups_N = np.zeros(len(values_N), dtype=int) if groups_N is None else np.asarray(groups_N)
    if not len(values_N) == len(videos_N) == len(groups_N):
        raise ValueError(
            f"{len(values_N)} values, {len(videos_N)} videos, {len(groups_N)} groups: pass one per question"
        )
    if not len(values_N) or np.isnan(values_N).any():
        raise ValueError(
            f"{np.isnan(values_N).sum()} of {len(values_N)} values are NaN: pass at least one, and numbers only"
        )
    names, group_N = np.unique(groups_N, return_inverse=True)
    shares = {name: 1 / len(names) for name in names.tolist()} if weights is None else weights
    if set(shares) != set(names.tolist()) or abs(sum(shares.values()) - 1) > 1e-9:
        raise ValueError(f"weights {dict(shares)} must give each of the groups {names.tolist()} a share and sum to 1")
    for index, name in enumerate(names.tolist()):
        inside = group_N == index
        video_C, cluster = np.unique(videos_N[inside], return_inverse=True)
        yield _Group(shares[name], video_C, np.bincount(cluster, values_N[inside]), np.bincount(cluster))

"""Intervals, tests and corrections: values worked out by hand, invariances, and simulations with a known answer."""

from __future__ import annotations

import math
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mlipbench.metrics.resampling import MAX_GROUPS, Link, deletions, jackknife_error
from mlipbench.metrics.statistics import (
    Bootstrap,
    Scale,
    cluster_interval,
    design_effect,
    holm,
    paired_difference,
    ratio_of_sums,
)
from mlipbench.metrics.values import Kind, Transform

POSITIVE = Scale(Kind.POSITIVE)
ROOT = Scale(Kind.POSITIVE, Transform.SQRT)
COSINE = Scale(Kind.BOUNDED)
FRACTION = Scale(Kind.FRACTION)
FAST = Bootstrap(resamples=500)


def clustered_errors(rng, n_clusters, correlation, sigma, models=1):
    """Return lognormal errors per structure of each model, their clusters, and the true mean.

    `correlation` is the share of the variance of the logarithm that structures of a cluster have in common.
    """
    sizes = rng.integers(5, 40, n_clusters)
    clusters = np.repeat(np.arange(n_clusters), sizes)
    errors = []
    for _ in range(models):
        common = rng.normal(size=n_clusters)[clusters]
        normal = math.sqrt(correlation) * common + math.sqrt(1 - correlation) * rng.normal(size=clusters.size)
        errors.append(np.exp(sigma * normal))
    return errors, clusters, math.exp(sigma**2 / 2)


# --- the ratio itself


def test_ratio_of_sums_by_hand():
    assert ratio_of_sums(np.array([1.0, 2.0, 6.0]), np.array([1.0, 1.0, 2.0])) == 2.25
    assert ratio_of_sums(np.array([1.0, 2.0, 6.0]), np.array([1.0, 1.0, 2.0]), Transform.SQRT) == 1.5
    assert math.isnan(ratio_of_sums(np.zeros(2), np.zeros(2)))
    assert ratio_of_sums(np.full(10, 1e308), np.ones(10)) == math.inf


# --- intervals


def test_quantities_of_either_sign_have_intervals_that_move_with_them():
    values = np.random.default_rng(3).normal(size=60)
    ones, clusters, real = np.ones(60), np.arange(60) // 2, Scale(Kind.REAL)
    at_zero = cluster_interval(values, ones, clusters, real, FAST)
    assert at_zero.low < values.mean() < at_zero.high
    assert (at_zero.high - values.mean()) == pytest.approx(values.mean() - at_zero.low)
    for shift in (-40.0, 40.0):
        moved = cluster_interval(values + shift, ones, clusters, real, FAST)
        assert (moved.low, moved.high) == pytest.approx((at_zero.low + shift, at_zero.high + shift))
    difference = paired_difference((values + 40.0, ones), (values - 40.0 + 0.1 * clusters, ones), clusters, real, FAST)
    assert difference.low < difference.difference < difference.high
    assert difference.high > 2.0


@pytest.mark.parametrize("n_clusters", [1, 7])
@pytest.mark.parametrize("scale", [POSITIVE, ROOT, COSINE, FRACTION])
def test_few_clusters_give_no_interval(n_clusters, scale):
    clusters = np.arange(70) % n_clusters
    interval = cluster_interval(np.linspace(0.1, 0.9, 70), np.ones(70), clusters, scale)
    assert (interval.low, interval.high, interval.n_clusters) == (None, None, n_clusters)
    clusters = "1 cluster" if n_clusters == 1 else f"{n_clusters} clusters"
    assert interval.reason == f"{clusters}: fewer than the 8 an interval needs"


def test_eight_clusters_are_enough():
    interval = cluster_interval(np.linspace(0.1, 0.9, 80), np.ones(80), np.arange(80) % 8, POSITIVE)
    assert interval.low < 0.5 < interval.high


def test_structures_with_nothing_to_count_form_no_cluster():
    denominator = np.ones(8)
    denominator[0] = 0.0
    interval = cluster_interval(denominator * 0.5, denominator, np.arange(8), POSITIVE)
    assert interval.n_clusters == 7


def test_many_equal_clusters_approach_the_normal_interval():
    # Independent unit-size clusters, sd 0.2 around 1, G = 1600: 1 ± 1.96 * 0.2 / 40 = 1 ± 0.0098.
    numerator = np.tile([0.8, 1.2], 800)
    interval = cluster_interval(numerator, np.ones(1600), np.arange(1600), POSITIVE, Bootstrap(resamples=20_000))
    assert interval.low == pytest.approx(1 - 0.0098, abs=0.0004)
    assert interval.high == pytest.approx(1 + 0.0098, abs=0.0004)
    root = cluster_interval(numerator, np.ones(1600), np.arange(1600), ROOT, Bootstrap(resamples=20_000))
    assert root.low == pytest.approx(1 - 0.0049, abs=0.0002)
    assert root.high == pytest.approx(1 + 0.0049, abs=0.0002)


def test_clusters_widen_by_the_design_effect():
    # 400 values in clusters of 4 identical ones: the standard error doubles against 400 independent values.
    rng = np.random.default_rng(0)
    numerator = np.repeat(1.0 + 0.1 * rng.normal(size=100), 4)
    bootstrap = Bootstrap(resamples=20_000)
    together = cluster_interval(numerator, np.ones(400), np.repeat(np.arange(100), 4), COSINE, bootstrap)
    apart = cluster_interval(numerator - 0.5, np.ones(400), np.arange(400), COSINE, bootstrap)
    half_together = ratio_of_sums(numerator, np.ones(400)) - together.low
    half_apart = ratio_of_sums(numerator - 0.5, np.ones(400)) - apart.low
    assert half_together / half_apart == pytest.approx(2.0, rel=0.06)


@pytest.mark.parametrize(("scale", "value"), [(POSITIVE, 0.25), (ROOT, 0.5), (COSINE, 0.25)])
def test_clusters_that_agree_give_no_width_and_say_so(scale, value):
    # Unequal sizes and weights, equal ratio in each cluster.
    denominator = np.arange(1.0, 31.0)
    interval = cluster_interval(0.25 * denominator, denominator, np.arange(30) % 10, scale)
    assert (interval.low, interval.high) == (pytest.approx(value), pytest.approx(value))
    assert interval.reason == "no width: all 10 clusters have the same value"


def test_a_large_cluster_counts_as_what_the_others_leave_uncertain():
    # The delete-one jackknife of the ratio by hand: 39 clusters of one structure, and one of 39 that pulls the ratio
    # half way to itself.
    rng = np.random.default_rng(11)
    clusters = np.r_[np.arange(39), np.full(39, 39)]
    numerator = 1.0 + 0.1 * rng.normal(size=78) + np.r_[np.zeros(39), np.full(39, 0.2)]
    sums = np.stack([np.bincount(clusters, numerator), np.bincount(clusters)])
    left = [(sums[0].sum() - n) / (sums[1].sum() - d) for n, d in sums.T]
    ratio = numerator.mean()
    error = math.sqrt(39 / 40 * np.sum((np.array(left) - ratio) ** 2)) / ratio
    changes = deletions(sums.T, Link.LOG)
    assert float(jackknife_error(changes[:, 0])) == pytest.approx(error)
    linearised = math.sqrt(40 / 39 * np.sum((sums[0] - ratio * sums[1]) ** 2)) / sums[0].sum()
    assert error > 1.8 * linearised


def test_rounding_is_no_spread():
    # 0.1 + 0.2 is not 0.3 in floating point; both kinds of cluster have the same mean of 0.1.
    numerator = np.tile([0.1, 0.2, 0.3], 10)
    clusters = np.repeat(np.arange(20), np.tile([2, 1], 10))
    denominator = np.tile([1.0, 2.0, 3.0], 10)
    interval = cluster_interval(numerator, denominator, clusters, POSITIVE)
    assert interval.high - interval.low < 1e-15
    assert "no width" in interval.reason


def test_no_errors_at_all():
    interval = cluster_interval(np.zeros(20), np.ones(20), np.arange(20), ROOT)
    assert (interval.low, interval.high) == (0.0, 0.0)
    assert "no width" in interval.reason


def test_one_deviating_cluster_among_eight_gives_no_finite_interval():
    # A third of all resamples miss it and have no spread at all.
    numerator = np.ones(8)
    numerator[3] = 9.0
    interval = cluster_interval(numerator, np.ones(8), np.arange(8), POSITIVE)
    assert (interval.low, interval.high) == (None, None)
    assert "no finite end" in interval.reason
    # However little it deviates: what is left of the spread in such a resample is rounding.
    denominator = np.array([1, 3, 7, 0.7, 1.1, 2.3, 5.1, 0.3])
    slight = 0.3 * denominator
    slight[3] *= 1 + 1e-8
    assert cluster_interval(slight, denominator, np.arange(8), POSITIVE).low is None
    bounded = cluster_interval(numerator / 10, np.ones(8), np.arange(8), COSINE)
    assert (bounded.low, bounded.high) == (-1.0, 1.0)


@pytest.mark.parametrize(("n", "bound"), [(8, 0.3694), (10, 0.3085), (30, 0.1157)])
def test_all_or_nothing_gets_the_exact_binomial_bound(n, bound):
    # Clopper-Pearson for 0 of n: 1 - 0.025^(1/n); tables give 36.9 %, 30.8 % and 11.6 %.
    assert bound == pytest.approx(1 - 0.025 ** (1 / n), abs=1e-4)
    clusters = np.repeat(np.arange(n), 5)
    nothing = cluster_interval(np.zeros(5 * n), np.ones(5 * n), clusters, FRACTION)
    assert nothing.low == 0.0
    assert nothing.high == pytest.approx(bound, abs=1e-4)
    everything = cluster_interval(np.ones(5 * n), np.ones(5 * n), clusters, FRACTION)
    assert everything.low == pytest.approx(1 - bound, abs=1e-4)
    assert everything.high == 1.0


def test_a_fraction_of_identical_structures_counts_clusters():
    # 40 of 100 clusters succeed, in all of their structures: one observation each, 40 of 100, whose Clopper-Pearson
    # interval is 30.3 % to 50.3 %.
    success = np.repeat((np.arange(100) < 40).astype(float), 7)
    interval = cluster_interval(success, np.ones(700), np.repeat(np.arange(100), 7), FRACTION)
    assert interval.low == pytest.approx(0.303, abs=0.006)
    assert interval.high == pytest.approx(0.503, abs=0.006)
    assert interval.low <= 0.3035
    assert interval.high >= 0.5025


def test_intervals_stay_in_range():
    rng = np.random.default_rng(1)
    cosine = cluster_interval(1 - 0.3 * rng.random(8) ** 8, np.ones(8), np.arange(8), COSINE)
    assert -1 <= cosine.low < cosine.high <= 1
    fraction = cluster_interval(np.array([1.0] * 8 + [0.0]), np.ones(9), np.arange(9), FRACTION)
    assert 0 <= fraction.low < 8 / 9 < fraction.high <= 1
    positive = cluster_interval(rng.random(8) ** 8, np.ones(8), np.arange(8), POSITIVE)
    assert positive.low > 0


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10**6), scale=st.sampled_from([POSITIVE, ROOT, COSINE, FRACTION]))
def test_order_and_names_do_not_matter(seed, scale):
    rng = np.random.default_rng(seed)
    clusters = rng.integers(0, 12, 60)
    numerator, denominator = rng.random(60), 1.0 + rng.random(60)
    order, names = rng.permutation(60), rng.permutation(1000)[:12]
    one = cluster_interval(numerator, denominator, clusters, scale, FAST)
    two = cluster_interval(numerator[order], denominator[order], clusters[order], scale, FAST)
    three = cluster_interval(numerator, denominator, names[clusters], scale, FAST)
    four = cluster_interval(numerator, denominator, np.array([f"c{code}" for code in clusters]), scale, FAST)
    assert one == two == three == four


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10**6), factor=st.floats(1e-3, 1e3))
def test_a_change_of_unit_scales_the_interval(seed, factor):
    rng = np.random.default_rng(seed)
    numerator, denominator = rng.random(20), 1.0 + rng.random(20)
    one = cluster_interval(numerator, denominator, np.arange(20), POSITIVE, FAST)
    two = cluster_interval(numerator * factor, denominator, np.arange(20), POSITIVE, FAST)
    assert two.low == pytest.approx(one.low * factor, rel=1e-9)
    assert two.high == pytest.approx(one.high * factor, rel=1e-9)


def test_seeds_decide():
    rng = np.random.default_rng(2)
    numerator = rng.random(20)
    intervals = [
        cluster_interval(numerator, np.ones(20), np.arange(20), POSITIVE, Bootstrap(seed=seed)) for seed in (1, 1, 2)
    ]
    assert intervals[0] == intervals[1]
    assert intervals[0] != intervals[2]
    assert intervals[0].low == pytest.approx(intervals[2].low, rel=0.1)


def test_a_higher_level_is_wider():
    numerator = np.random.default_rng(2).random(20)
    narrow, wide = (
        cluster_interval(numerator, np.ones(20), np.arange(20), POSITIVE, Bootstrap(level=level))
        for level in (0.8, 0.99)
    )
    assert wide.low < narrow.low < narrow.high < wide.high


def test_grouping_many_clusters_keeps_the_width():
    # sd of a uniform variable is 1/sqrt(12); 1.96 sd / sqrt(G) around the mean of 1/2.
    n = 4 * MAX_GROUPS + 3
    numerator = np.random.default_rng(4).random(n)
    interval = cluster_interval(numerator, np.ones(n), np.arange(n), COSINE, Bootstrap(resamples=5000))
    assert (interval.high - interval.low) / 2 == pytest.approx(1.96 / math.sqrt(12 * n), rel=0.08)
    assert interval.n_clusters == n


@pytest.mark.parametrize("scale", [POSITIVE, FRACTION])
def test_a_million_clusters_stay_within_time_and_memory(scale):
    n = 1_000_000
    numerator = np.random.default_rng(5).random(n)
    denominator, clusters = np.ones(n), np.arange(n)
    tracemalloc.start()
    start = time.perf_counter()
    interval = cluster_interval(numerator, denominator, clusters, scale)
    elapsed = time.perf_counter() - start
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert interval.low < 0.5 < interval.high
    assert interval.high - interval.low < 0.003
    assert peak < 250e6
    assert elapsed < 30


@pytest.mark.parametrize(
    ("numerator", "denominator", "clusters", "scale", "message"),
    [
        (np.ones(3), np.ones(4), np.arange(4), POSITIVE, "differ in shape"),
        (np.ones(4), np.ones(4), np.arange(3), POSITIVE, "clusters have shape"),
        (np.array([1.0, -1.0]), np.ones(2), np.arange(2), POSITIVE, "structure 1: -1.0 over 1.0"),
        (np.array([1.0, np.nan]), np.ones(2), np.arange(2), COSINE, "structure 1: nan"),
        (np.array([1.0, 2.0]), np.ones(2), np.arange(2), FRACTION, "structure 1: 2.0"),
        (np.ones(2), np.array([-1.0, 1.0]), np.arange(2), COSINE, "structure 0"),
        (np.ones(2), np.ones(2), np.array([0.0, np.nan]), POSITIVE, "without a cluster"),
    ],
)
def test_impossible_input_is_refused(numerator, denominator, clusters, scale, message):
    with pytest.raises(ValueError, match=message):
        cluster_interval(numerator, denominator, clusters, scale)


@pytest.mark.parametrize("settings_", [{"resamples": 99}, {"level": 0.0}, {"level": 1.0}])
def test_useless_bootstraps_are_refused(settings_):
    with pytest.raises(ValueError, match="resamples"):
        Bootstrap(**settings_)


# --- coverage


def coverage(n_clusters, correlation, sigma, *, trials, resamples=400, seed=0):
    rng = np.random.default_rng(seed)
    hits = 0
    for trial in range(trials):
        (errors,), clusters, truth = clustered_errors(rng, n_clusters, correlation, sigma)
        bootstrap = Bootstrap(trial, resamples)
        interval = cluster_interval(errors, np.ones(errors.size), clusters, POSITIVE, bootstrap)
        hits += interval.low <= truth <= interval.high
    return hits / trials


def fraction_coverage(n_clusters, correlation, share, *, trials, seed=0):
    rng = np.random.default_rng(seed)
    hits = 0
    for _ in range(trials):
        sizes = rng.integers(5, 40, n_clusters)
        clusters = np.repeat(np.arange(n_clusters), sizes)
        # A beta-binomial has exactly this correlation within clusters.
        strength = (1 - correlation) / correlation
        chance = rng.beta(share * strength, (1 - share) * strength, n_clusters)
        success = (rng.random(clusters.size) < chance[clusters]).astype(float)
        interval = cluster_interval(success, np.ones(success.size), clusters, FRACTION)
        hits += interval.low <= share <= interval.high
    return hits / trials


# With 400 trials the standard deviation of a coverage of 0.95 is 0.011: the bounds are three of them wide.
@pytest.mark.parametrize(
    ("n_clusters", "correlation", "low"), [(8, 0.4, 0.92), (12, 0.8, 0.91), (30, 0.0, 0.92), (30, 0.8, 0.915)]
)
def test_coverage_of_moderately_skewed_errors(n_clusters, correlation, low):
    assert low <= coverage(n_clusters, correlation, 0.5, trials=400) <= 0.985


@pytest.mark.parametrize(("n_clusters", "correlation", "share"), [(12, 0.4, 0.2), (30, 0.4, 0.03), (30, 0.8, 0.2)])
def test_coverage_of_fractions_is_not_below_the_level(n_clusters, correlation, share):
    assert fraction_coverage(n_clusters, correlation, share, trials=300) >= 0.92


@pytest.mark.slow
@pytest.mark.parametrize("correlation", [0.0, 0.4, 0.8])
@pytest.mark.parametrize(
    ("n_clusters", "sigma", "low"),
    [
        (8, 0.5, 0.93), (12, 0.5, 0.93), (30, 0.5, 0.93), (200, 0.5, 0.935), (2000, 0.5, 0.93),
        (8, 1.0, 0.90), (12, 1.0, 0.895), (30, 1.0, 0.90), (200, 1.0, 0.925), (2000, 1.0, 0.925),
    ],
)  # fmt: skip
def test_coverage_of_the_whole_range(n_clusters, correlation, sigma, low):
    # Three standard deviations of 1000 trials are 0.021 at 0.95 and 0.026 at 0.915; of 300, 0.038.
    trials = 1000 if n_clusters < 2000 else 300
    assert low - 0.01 <= coverage(n_clusters, correlation, sigma, trials=trials, resamples=500) <= 0.985


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.005, 0.03, 0.2, 0.5, 0.95])
@pytest.mark.parametrize("correlation", [0.1, 0.4, 0.8])
@pytest.mark.parametrize("n_clusters", [8, 12, 30, 100, 1000])
def test_coverage_of_fractions_over_the_whole_range(n_clusters, correlation, share):
    assert fraction_coverage(n_clusters, correlation, share, trials=400) >= 0.92


# --- paired differences


def test_difference_by_hand():
    a = (np.array([2.0, 4.0, 9.0]), np.array([1.0, 2.0, 0.0]))
    b = (np.array([1.0, 1.0, 1.0]), np.array([1.0, 1.0, 1.0]))
    result = paired_difference(a, b, np.arange(3), POSITIVE)
    # The third structure is not common: (2 + 4) / 3 - (1 + 1) / 2.
    assert (result.difference, result.n, result.n_clusters) == (1.0, 2, 2)
    assert (result.low, result.high, result.p_value) == (None, None, None)
    assert "fewer than the 8" in result.reason
    root = paired_difference((a[0] ** 2, a[1]), b, np.arange(3), ROOT)
    assert root.difference == pytest.approx(math.sqrt(20 / 3) - 1.0)


def test_no_common_structure():
    a = (np.ones(4), np.array([1.0, 1.0, 0.0, 0.0]))
    b = (np.ones(4), np.array([0.0, 0.0, 1.0, 1.0]))
    result = paired_difference(a, b, np.arange(4), POSITIVE)
    assert (result.difference, result.p_value, result.n) == (None, None, 0)
    assert "no structure" in result.reason


@pytest.mark.parametrize("scale", [POSITIVE, ROOT, COSINE, FRACTION])
def test_a_model_does_not_differ_from_itself(scale):
    a = (np.random.default_rng(0).random(40), np.ones(40))
    result = paired_difference(a, a, np.arange(40) % 10, scale)
    assert (result.difference, result.low, result.high, result.p_value) == (0.0, 0.0, 0.0, 1.0)
    assert "no width" in result.reason


def test_the_same_ratio_everywhere_has_the_p_value_of_equal_signs():
    b = (1.0 + np.arange(10.0), np.ones(10))  # mean 5.5
    result = paired_difference((1.5 * b[0], b[1]), b, np.arange(10), POSITIVE)
    assert result.difference == pytest.approx(2.75)
    assert (result.low, result.high) == (pytest.approx(2.75), pytest.approx(2.75))
    assert result.p_value == 2 / 2**10


def test_the_spread_of_a_poor_model_does_not_hide_that_it_is_poor():
    rng = np.random.default_rng(5)
    good = (np.exp(0.5 * rng.normal(size=12)), np.ones(12))
    poor = (10 * np.exp(0.9 * rng.normal(size=12)), np.ones(12))
    assert (poor[0] > good[0]).all()
    assert paired_difference(poor, good, np.arange(12), POSITIVE).p_value < 0.01


def test_pairing_finds_what_single_intervals_hide():
    # A common spread of sd 1 between structures, and a difference of 0.05 with a spread of 0.1.
    rng = np.random.default_rng(1)
    common = np.exp(rng.normal(size=200))
    a = (common + 0.05 + 0.1 * rng.random(200), np.ones(200))
    b = (common + 0.1 * rng.random(200), np.ones(200))
    singles = [cluster_interval(*sums, np.arange(200), POSITIVE) for sums in (a, b)]
    assert singles[0].low < singles[1].high
    result = paired_difference(a, b, np.arange(200), POSITIVE)
    # Cochran's linearised standard error of the logarithm of a ratio of two means, put at the mean of b.
    residuals = a[0] / a[0].mean() - b[0] / b[0].mean()
    half = 1.96 * np.sqrt(np.sum(residuals**2) / (200 * 199)) * a[0].mean()
    assert (result.high - result.low) / 2 == pytest.approx(half, rel=0.2)
    assert result.low > 0
    assert result.p_value < 0.01


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10**6), scale=st.sampled_from([POSITIVE, ROOT, COSINE, FRACTION]))
def test_difference_is_antisymmetric_and_its_interval_agrees_with_the_p_value(seed, scale):
    rng = np.random.default_rng(seed)
    a, b = (rng.random(60) ** 2, np.ones(60)), (rng.random(60), np.ones(60))
    clusters = rng.integers(0, 20, 60)
    one = paired_difference(a, b, clusters, scale, Bootstrap(resamples=2000))
    two = paired_difference(b, a, clusters, scale, Bootstrap(resamples=2000))
    assert two.difference == -one.difference
    assert one.low <= one.difference <= one.high
    if abs(one.p_value - 0.05) > 0.002:
        assert (one.p_value < 0.05) == (not one.low <= 0.0 <= one.high)
    # Two seeds' worth of noise: the canonical order of clusters differs when the models change places.
    assert two.p_value == pytest.approx(one.p_value, abs=0.06)


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 10**6))
def test_difference_does_not_depend_on_order_and_names(seed):
    rng = np.random.default_rng(seed)
    a, b = (rng.random(60), 1.0 + rng.random(60)), (rng.random(60), 1.0 + rng.random(60))
    clusters, order, names = rng.integers(0, 12, 60), rng.permutation(60), rng.permutation(99)[:12]
    one = paired_difference(a, b, clusters, ROOT, FAST)
    two = paired_difference((a[0][order], a[1][order]), (b[0][order], b[1][order]), names[clusters[order]], ROOT, FAST)
    assert one == two


def test_a_perfect_model_has_a_root_too():
    rng = np.random.default_rng(3)
    perfect, other = (np.zeros(40), np.ones(40)), (1.0 + rng.random(40), np.ones(40))
    result = paired_difference(other, perfect, np.arange(40), ROOT)
    assert result.difference == pytest.approx(math.sqrt(other[0].mean()))
    assert 0 < result.low < result.difference < result.high
    # No resample comes near: the smallest p-value that 2000 of them can show, never 0.
    assert result.p_value == 1 / 2001


def test_rare_successes_are_told_apart_no_better_than_by_counting():
    # 3 successes against none in 1000 clusters: a sign test gives 2 / 2^3 = 0.25; 12 against none: 2 / 2^12.
    none = (np.zeros(1000), np.ones(1000))
    for successes, significant in ((3, False), (12, True)):
        some = (np.r_[np.ones(successes), np.zeros(1000 - successes)], np.ones(1000))
        result = paired_difference(some, none, np.arange(1000), FRACTION)
        assert (result.p_value < 0.05) == significant


def null_p_values(n_clusters, *, trials, models_differ=0.0, seed=0):
    rng = np.random.default_rng(seed)
    p_values = []
    for trial in range(trials):
        (a, b), clusters, _ = clustered_errors(rng, n_clusters, 0.5, 0.5, models=2)
        sums = [(errors, np.ones(errors.size)) for errors in (a * (1 + models_differ), b)]
        p_values.append(paired_difference(*sums, clusters, POSITIVE, Bootstrap(trial, 400)).p_value)
    return np.array(p_values)


@pytest.mark.parametrize("n_clusters", [12, 60])
def test_p_values_of_equal_models_are_uniform(n_clusters):
    p_values = null_p_values(n_clusters, trials=400)
    # 5 % of 400 is 20 ± 4.4; the test may be conservative with few clusters, never liberal by more than noise.
    assert 0.01 <= np.mean(p_values <= 0.05) <= 0.085
    assert np.mean(p_values <= 0.5) == pytest.approx(0.5, abs=0.075)
    assert stats.kstest(p_values, "uniform").statistic < 0.1


def test_p_values_of_unequal_models_are_not():
    assert np.mean(null_p_values(60, trials=60, models_differ=0.5) <= 0.05) > 0.8


# --- minimum detectable differences and design effects


def test_the_detectable_difference_of_many_clusters_is_the_normal_one():
    # Differences 0.3 ± 0.2 of 1,600 clusters: (1.96 + 0.8416) * 0.2 / 40 = 0.0140.
    b = (np.zeros(1600), np.ones(1600))
    a = (np.tile([0.1, 0.5], 800), np.ones(1600))
    found = paired_difference(a, b, np.arange(1600), COSINE, Bootstrap(resamples=20_000))
    assert found.detectable == pytest.approx(0.0140, abs=0.0003)


def test_the_detectable_difference_of_errors_stands_at_the_value_they_are_compared_with():
    # Errors twice 0.9 or 1.1 against 1: the logarithm of the ratio has the standard error 0.1 / 40, so that an increase
    # by exp(2.8016 * 0.0025) - 1 = 0.703 % of 1 is found.
    b = (np.ones(1600), np.ones(1600))
    a = (np.tile([1.8, 2.2], 800), np.ones(1600))
    found = paired_difference(a, b, np.arange(1600), POSITIVE, Bootstrap(resamples=20_000))
    assert found.detectable == pytest.approx(0.00703, abs=0.0002)


def test_the_detectable_difference_is_found_four_times_in_five():
    rng, n = np.random.default_rng(8), 30
    # Student's: t(0.975, 29) = 2.0452, t(0.8, 29) = 0.8542.
    shift = (2.0452 + 0.8542) * 0.1 / math.sqrt(n)
    found = 0
    for trial in range(400):
        a = (shift + 0.1 * rng.normal(size=n), np.ones(n))
        result = paired_difference(a, (np.zeros(n), np.ones(n)), np.arange(n), COSINE, Bootstrap(trial, 400))
        found += result.p_value <= 0.05
    assert found / 400 == pytest.approx(0.8, abs=0.06)  # three standard deviations


def test_a_difference_beyond_the_range_is_not_detectable():
    success = np.tile([0.0, 1.0], 4)
    found = paired_difference((success, np.ones(8)), (success[::-1].copy(), np.ones(8)), np.arange(8), FRACTION)
    assert found.detectable is None


def test_the_design_effect_of_identical_structures_is_their_number():
    # Four copies each: 4 G/(G-1) (n-1)/n with G = 100 and n = 400.
    numerator = np.repeat(np.random.default_rng(0).random(100), 4)
    effect = design_effect(numerator, np.ones(400), np.repeat(np.arange(100), 4))
    assert effect == pytest.approx(4 * 100 / 99 * 399 / 400)
    assert design_effect(numerator, np.ones(400), np.arange(400)) == pytest.approx(1.0)


def test_the_design_effect_is_kishs():
    # 1 + (m - 1) rho with m = 20 and rho = 0.3 (Kish, section 5.4): 6.7.
    rng, n_clusters = np.random.default_rng(1), 4000
    values = math.sqrt(0.3) * rng.normal(size=n_clusters)[:, None] + math.sqrt(0.7) * rng.normal(size=(n_clusters, 20))
    effect = design_effect(5.0 + values.ravel(), np.ones(20 * n_clusters), np.repeat(np.arange(n_clusters), 20))
    assert effect == pytest.approx(6.7, rel=0.07)


def test_there_is_no_design_effect_of_few_clusters_or_equal_structures():
    assert design_effect(np.arange(70.0), np.ones(70), np.arange(70) % 7) is None
    assert design_effect(0.1 * np.arange(1.0, 41.0), np.arange(1.0, 41.0), np.arange(40)) is None


# --- multiplicity


def test_holm_by_hand():
    # Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1: 0.02, 0.03, 0.06, 0.04 -> raised to 0.06 by the one before.
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02], rtol=1e-14)
    np.testing.assert_array_equal(holm([0.9, 0.8]), [1.0, 1.0])
    np.testing.assert_array_equal(holm([0.05]), [0.05])
    assert holm([]).shape == (0,)


@pytest.mark.parametrize("p_value", [1.1, -0.1, math.nan])
def test_holm_refuses_nonsense(p_value):
    with pytest.raises(ValueError, match="p-values"):
        holm([p_value])

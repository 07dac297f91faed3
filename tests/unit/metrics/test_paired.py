"""Changes from one model to another, against hand computation, tables of Student's t and simulated errors."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from mlipbench.metrics.contrast import Estimate
from mlipbench.metrics.dynamics import DYNAMICS_METRICS, ReplicaScores
from mlipbench.metrics.paired import (
    Change,
    counted_change,
    gap_change,
    independent_ratio,
    p_of_interval,
    per_structure,
    replicas_change,
    single_change,
    structures_change,
)
from mlipbench.metrics.resampling import Bootstrap
from mlipbench.metrics.values import Kind, Scale, Transform

T_2 = 4.302653  # 97.5 % quantile of Student's t with two degrees of freedom, from tables
ERRORS = Scale(Kind.POSITIVE)


def replicas(n: int, **columns: list[float]) -> ReplicaScores:
    filled = {field.name: np.full(n, np.nan) for field in dataclasses.fields(ReplicaScores)}
    filled |= {"n_atoms": np.full(n, 8), "horizon": np.full(n, 10.0)}
    return ReplicaScores(**(filled | {name: np.asarray(column, dtype=float) for name, column in columns.items()}))  # type: ignore[arg-type]


def test_the_change_of_an_error_by_hand() -> None:
    """Means 5.5 and 6.05 over ten structures; the ratio is the same in all, whose ten equal signs have p = 2 / 2^10.

    The differences 0.1 ... 1.0 have standard deviation 0.3028: Student's interval of their mean has half width 0.2166.
    """
    a, ones = np.arange(1.0, 11.0), np.ones(10)
    found = structures_change((a, ones), (1.1 * a, ones), np.arange(10), ERRORS)
    assert (found.a, found.b) == (5.5, pytest.approx(6.05))
    assert found.difference is not None
    assert found.difference.value == pytest.approx(0.55)
    for end in (found.difference.low, found.difference.high):
        assert abs((end or 0.0) - 0.55) == pytest.approx(0.2166, rel=0.15)
    assert found.relative == pytest.approx(Estimate(0.1, 0.1, 0.1))
    assert found.p == pytest.approx(2 / 2**10)
    assert (found.n, found.n_clusters) == (10, 10)


def test_structures_that_one_lacks_are_left_out_of_both() -> None:
    a, b = np.array([1.0, 2.0, 100.0]), np.array([2.0, 4.0, 0.0])
    found = structures_change((a, np.ones(3)), (b, np.array([1.0, 1.0, 0.0])), np.arange(3), ERRORS)
    assert (found.a, found.b, found.n) == (1.5, 3.0, 2)
    assert found.difference == (1.5, None, None)
    assert found.relative == (1.0, None, None)
    assert found.p is None
    assert "2 clusters: fewer than the 8" in str(found.reason)
    nothing = structures_change((a, np.zeros(3)), (b, np.ones(3)), np.arange(3), ERRORS)
    assert (nothing.a, nothing.difference, nothing.n) == (None, None, 0)


def test_shares_and_cosines_have_no_relative_change() -> None:
    a, ones = np.array([0.0, 1.0] * 5), np.ones(10)
    found = structures_change((a, ones), (ones, ones), np.arange(10), Scale(Kind.FRACTION))
    assert found.difference is not None
    assert found.difference.value == 0.5
    assert found.relative is None


@pytest.mark.parametrize(("own", "shared"), [(0.5, 0.5), (0.4, 0.8)])
def test_the_intervals_cover_the_truth(own: float, shared: float) -> None:
    """B's errors are 1.3 times A's on average, both lognormal, with effects of the cluster that both have in common.

    The mean of a lognormal number is exp(σ²/2). With 400 trials the standard deviation of a coverage of 0.95 is 0.011.
    """
    rng = np.random.default_rng(8)
    clusters = np.repeat(np.arange(40), 6)
    truth = 0.3, 0.3 * math.exp((own**2 + shared**2) / 2)
    hits, excluded = np.zeros(2), 0
    for _ in range(400):
        effect = shared * rng.standard_normal(40)[clusters]
        a, b = (np.exp(effect + own * rng.standard_normal(clusters.size)) for _ in "ab")
        ones = np.ones(clusters.size)
        found = structures_change((a, ones), (1.3 * b, ones), clusters, ERRORS, Bootstrap(resamples=400))
        for place, (estimate, true) in enumerate(zip((found.relative, found.difference), truth, strict=True)):
            assert estimate is not None
            assert estimate.low is not None
            assert estimate.high is not None
            hits[place] += estimate.low <= true <= estimate.high
            excluded += estimate.low > 0
    assert np.all((hits / 400 >= 0.917) & (hits / 400 <= 0.983)), hits / 400
    assert excluded > 400  # they are no intervals that cover everything


def test_means_over_replicas_have_students_interval_of_the_differences() -> None:
    """Differences 1, 2, 3: mean 2, error 1/sqrt(3); Student's tail with two degrees is 1 - t / sqrt(2 + t²)."""
    a, b = replicas(4, rdf_mae=[1, 1, 1, 9]), replicas(4, rdf_mae=[2, 3, 4, np.nan])
    found = replicas_change(DYNAMICS_METRICS["rdf_mae"], a, b)
    half = T_2 / math.sqrt(3)
    assert (found.a, found.b, found.n) == (1.0, 3.0, 3)
    assert found.difference == pytest.approx(Estimate(2.0, 2.0 - half, 2.0 + half), abs=1e-6)
    assert found.relative == (2.0, None, None)
    # Student's 80 % quantile with two degrees of freedom: 0.6 sqrt(2 / 0.64) from its closed form.
    assert found.detectable == pytest.approx(half + 0.6 * math.sqrt(2 / 0.64) / math.sqrt(3), abs=1e-6)
    t = 2 * math.sqrt(3)
    assert found.p == pytest.approx(1 - t / math.sqrt(2 + t**2))


def test_few_or_equal_differences_of_replicas() -> None:
    definition = DYNAMICS_METRICS["rdf_mae"]
    two = replicas_change(definition, replicas(2, rdf_mae=[1, 2]), replicas(2, rdf_mae=[2, 4]))
    assert two.difference == (1.5, None, None)
    assert (two.p, two.reason) == (None, "2 pairs of replicas, an interval needs 3")
    alike = replicas_change(definition, replicas(4, rdf_mae=[1, 2, 3, 4]), replicas(4, rdf_mae=[2, 3, 4, 5]))
    assert alike.difference == (1.0, 1.0, 1.0)
    assert (alike.p, alike.reason) == (0.125, "no width: all 4 pairs differ alike")
    same = replicas_change(definition, replicas(4, rdf_mae=[1, 2, 3, 4]), replicas(4, rdf_mae=[1, 2, 3, 4]))
    assert same.p == 1.0
    none = replicas_change(definition, replicas(1, rdf_mae=[1]), replicas(1))
    assert none.difference is None


def test_times_of_stability_leave_out_censored_pairs() -> None:
    """Pairs differ by 8, 6 and 4 ps of 10; in the fourth, A was censored at 1 ps, which the worst case counts: 9 ps."""
    a = replicas(4, stable=[2, 4, 6, 1], failed=[1, 1, 1, 0])
    b = replicas(4, stable=[10, 10, 10, 10], failed=[0, 0, 0, 0])
    found = replicas_change(DYNAMICS_METRICS["stability"], a, b)
    half = T_2 * 2 / math.sqrt(3)
    assert found.difference == pytest.approx(Estimate(6.0, 6.0 - half, min(6.0 + half, 10.0)), abs=1e-5)
    assert found.b == 10.0
    assert found.n == 3
    assert found.reason == "1 pairs with a censored replica are left out"
    worst = replicas_change(DYNAMICS_METRICS["stability_worst_case"], a, b)
    assert worst.difference is not None
    assert worst.difference.value == pytest.approx(6.75)
    assert (worst.a, worst.n, worst.reason) == (pytest.approx(3.25), 4, None)


def test_survival_of_all_has_binomial_limits() -> None:
    """Five pairs that all survive: a share 0.025^(1/5) of all pairs does so, the others differ by anything."""
    alive = replicas(5, stable=[10] * 5, failed=[0] * 5)
    found = replicas_change(DYNAMICS_METRICS["survived"], alive, alive)
    limit = 1 - 0.025**0.2
    assert (found.a, found.b) == (1.0, 1.0)
    assert found.difference == pytest.approx(Estimate(0.0, -limit, limit))
    assert found.p == 1.0
    dying = replicas(5, stable=[10, 10, 10, 10, 2], failed=[0, 0, 0, 0, 1])
    share = replicas_change(DYNAMICS_METRICS["survived"], alive, dying)
    assert share.b == pytest.approx(0.8)
    assert share.difference is not None
    assert share.difference.value == pytest.approx(-0.2)
    assert replicas_change(DYNAMICS_METRICS["survived"], alive, replicas(5)).difference is None


def test_the_change_of_a_gap_is_the_gap_of_the_changes() -> None:
    """Mean of 3 and 5, less 1: 3; squared arms 0.5² + (1/2)² + (1/2)²."""
    base = Change(1.0, 2.0, Estimate(1.0, 0.5, 1.5), p=0.01, n=5, n_clusters=9)
    others = [
        Change(2.0, 5.0, Estimate(3.0, 2.0, 4.0), p=0.01, n=6, n_clusters=8),
        Change(4.0, 9.0, Estimate(5.0, 4.0, 6.0), p=0.01, n=7, n_clusters=10),
    ]
    found = gap_change(base, others)
    arm = math.sqrt(0.75)
    assert (found.a, found.b) == (2.0, 5.0)
    assert found.difference == pytest.approx(Estimate(3.0, 3.0 - arm, 3.0 + arm))
    assert found.p == pytest.approx(math.erfc(1.959964 * 3 / arm / math.sqrt(2)), rel=1e-5)
    assert (found.n, found.n_clusters) == (18, 8)
    assert found.detectable == pytest.approx(arm * (1.959964 + 0.841621) / 1.959964, rel=1e-6)
    few = Change(1.0, 2.0, Estimate(1.0, None, None), n=5, n_clusters=5, reason="5 clusters")
    bare = gap_change(few, others)
    assert bare.difference == (3.0, None, None)
    assert (bare.p, bare.reason) == (None, "5 clusters")
    assert gap_change(Change(None, None, None), others).difference is None


@pytest.mark.parametrize(
    ("found", "p"),
    [
        (Estimate(1.0, 0.0, 5.0), 0.05),
        (Estimate(-1.0, -5.0, 0.0), 0.05),
        (Estimate(0.0, -1.0, 1.0), 1.0),
        (Estimate(1.0, 1.0, 1.0), 0.0),
        (Estimate(1.0, None, None), None),
    ],
)
def test_p_values_that_go_with_intervals(found: Estimate, p: float | None) -> None:
    assert p_of_interval(found) == (None if p is None else pytest.approx(p, abs=1e-9))


def test_ratios_of_independent_times() -> None:
    """8 [4, 16] over 2 [1, 4]: arms of ln 2 each make sqrt(2) ln 2."""
    found = independent_ratio(Estimate(2.0, 1.0, 4.0), Estimate(8.0, 4.0, 16.0), 20)
    factor = math.exp(math.sqrt(2) * math.log(2))
    assert found.relative == pytest.approx(Estimate(3.0, 4 / factor - 1, 4 * factor - 1))
    assert found.difference == (6.0, None, None)
    assert found.detectable == pytest.approx(2.0 * (factor ** (1 + 0.841621 / 1.959964) - 1), rel=1e-6)
    assert found.p == pytest.approx(math.erfc(1.959964 * math.sqrt(2) / math.sqrt(2)), rel=1e-5)
    bare = independent_ratio(Estimate(2.0, None, None), Estimate(8.0, 4.0, 16.0), 1)
    assert bare.detectable is None
    assert bare.relative is not None
    assert bare.relative == (pytest.approx(3.0), None, None)
    assert bare.p is None


def test_counts_and_single_measurements() -> None:
    counted = counted_change(100.0, 150.0)
    assert (counted.difference, counted.relative, counted.exact) == ((50.0, None, None), (0.5, None, None), True)
    assert counted_change(0.0, 5.0).relative is None
    single = single_change(4.0, 3.0, "why")
    assert (single.difference, single.exact, single.reason) == ((-1.0, None, None), False, "why")


def test_metrics_of_structures_by_themselves() -> None:
    sums = np.array([4.0, 9.0, 1.0]), np.array([1.0, 4.0, 0.0])
    np.testing.assert_array_equal(per_structure(sums, ERRORS), [4.0, 2.25, np.nan])
    np.testing.assert_array_equal(per_structure(sums, Scale(Kind.POSITIVE, Transform.SQRT)), [2.0, 1.5, np.nan])

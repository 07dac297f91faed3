import math

import numpy as np
import pytest

from mlipbench.metrics.timings import _signed_rank_quantile as outside
from mlipbench.metrics.timings import geometric_mean, line, paired_ratio, percentile

ROUNDS = np.repeat(np.arange(30), 4)


@pytest.mark.parametrize(
    ("n", "critical"), [(6, 0), (7, 2), (8, 3), (9, 5), (10, 8), (15, 25), (20, 52), (25, 89), (30, 137)]
)
def test_critical_values_of_the_signed_rank_test_are_those_of_published_tables(n, critical):
    """Wilcoxon and Wilcox (1964), two-sided 5 %."""
    assert outside(n) == critical


def test_a_percentile_that_few_calls_reach_is_blank():
    seconds = np.linspace(1.0, 2.0, 99)
    found = percentile(seconds, np.arange(99), 0.9)
    assert found.value is None
    assert found.reason == "99 calls do not reach that far, 100 would"
    assert percentile(np.linspace(1.0, 2.0, 100), np.arange(100), 0.9).value == pytest.approx(1.9)
    assert percentile(np.ones(999), np.arange(999), 0.99).value is None
    assert percentile(np.ones(1000), np.arange(1000), 0.99).value == 1.0


def test_a_median_of_few_rounds_has_no_interval():
    found = percentile(np.array([3.0, 1.0, 2.0]), np.arange(3), 0.5)
    assert (found.value, found.low, found.high) == (2.0, None, None)
    assert found.reason == "too few rounds for an interval: 3"
    assert percentile(np.zeros(0), np.zeros(0, dtype=np.int64), 0.5).value is None


def test_the_interval_of_a_median_knows_that_calls_of_a_round_are_alike():
    """All calls of a round are equal, so that 120 calls say no more than 30."""
    level = np.random.default_rng(1).normal(size=30)
    together = percentile(np.exp(level)[ROUNDS], ROUNDS, 0.5)
    alone = percentile(np.exp(level), np.arange(30), 0.5)
    assert together.high - together.low == pytest.approx(alone.high - alone.low, rel=0.3)


def test_a_ratio_by_hand():
    """Logarithms 0, .., 5: the means of all pairs have the median 2.5, and with 6 rounds none lies outside."""
    logs = np.arange(6.0)
    found = paired_ratio(2.0 * np.exp(logs), np.full(6, 2.0), np.arange(6))
    assert found.value == pytest.approx(math.exp(2.5))
    assert (found.low, found.high) == pytest.approx((1.0, math.exp(5.0)))
    few = paired_ratio(np.full(5, 3.0), np.full(5, 2.0), np.arange(5))
    assert few.value == pytest.approx(1.5)
    assert few.low is None


def test_a_ratio_takes_the_rounds_in_which_both_took_part():
    reference = np.full(120, 1.0)
    reference[60:] = np.nan
    found = paired_ratio(np.full(120, 1.5), reference, ROUNDS)
    assert found.value == pytest.approx(1.5)
    assert found.n == 15
    assert paired_ratio(np.ones(4), np.full(4, np.nan), np.arange(4)).value is None


def drifting(rng):
    """Return two series of equal calls on a machine whose speed wanders by tens of per cent, with rare hiccups."""
    speed = np.exp(np.cumsum(rng.normal(0, 0.1, 30)))[ROUNDS]
    hiccups = 1.0 + 5.0 * (rng.random((2, 120)) < 0.02)
    first, second = speed * np.exp(rng.normal(0, 0.05, (2, 120))) * hiccups
    return first, second


def test_a_model_against_itself_gives_one_and_a_tenth_more_is_found():
    rng = np.random.default_rng(0)
    same = [paired_ratio(*drifting(rng), ROUNDS) for _ in range(400)]
    covered = np.mean([found.low <= 1.0 <= found.high for found in same])
    assert 0.92 <= covered <= 0.98
    delayed = []
    for _ in range(200):
        first, second = drifting(rng)
        delayed.append(paired_ratio(1.1 * first, second, ROUNDS))
    assert np.mean([found.low > 1.0 for found in delayed]) > 0.95


def test_a_line_through_exact_times():
    atoms = np.array([10, 20, 40, 80])
    found = line(atoms, 0.1 + 0.01 * atoms)
    assert found.overhead.value == pytest.approx(0.1)
    assert found.slope.value == pytest.approx(0.01)
    assert found.slope.high - found.slope.low == pytest.approx(0.0, abs=1e-12)
    assert line(atoms[:2], np.ones(2)).slope.value is None


def test_the_interval_of_a_line_covers():
    rng = np.random.default_rng(5)
    atoms = np.repeat([10, 20, 40, 80, 160], 4)
    hits = []
    for _ in range(500):
        found = line(atoms, (0.1 + 0.01 * atoms) * (1 + 0.05 * rng.normal(size=20)))
        hits.append((found.overhead.low <= 0.1 <= found.overhead.high, found.slope.low <= 0.01 <= found.slope.high))
    assert np.all(np.mean(hits, axis=0) > 0.92)


def test_a_geometric_mean():
    found = geometric_mean(np.array([1.0, 10.0, 100.0]))
    assert found.value == pytest.approx(10.0)
    # logarithms -ln 10, 0, ln 10 about the mean: standard error ln 10 / sqrt 3, and 4.3027 of Student with 2 degrees
    assert found.high / 10.0 == pytest.approx(10 ** (4.302653 / math.sqrt(3)), rel=1e-5)
    assert geometric_mean(np.array([2.0, 8.0])).low is None

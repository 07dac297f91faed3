"""Two-way intervals against a double loop, a closed formula, and simulations with a known answer."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mlipbench.metrics.statistics import Bootstrap, Scale, cluster_interval
from mlipbench.metrics.two_way import Crossed, resampled, two_way_interval
from mlipbench.metrics.values import Kind, Transform


def crossed_table(rng, levels, spread, mean=0.0):
    """Return x_ij = mean + a_i + b_j + e_ij for all pairs, with the levels; `spread` holds three deviations."""
    rows, columns = (grid.ravel() for grid in np.meshgrid(*(np.arange(n) for n in levels), indexing="ij"))
    effects = [deviation * rng.normal(size=n) for deviation, n in zip(spread[:2], levels, strict=True)]
    return mean + effects[0][rows] + effects[1][columns] + spread[2] * rng.normal(size=rows.size), rows, columns


def test_ratios_are_those_of_a_double_loop():
    rng = np.random.default_rng(1)
    n = 40
    numerator, denominator = rng.random(n), rng.integers(0, 3, n).astype(float)
    first, second = rng.choice(["a", "b", "c"], n), rng.integers(10, 14, n)
    enters = denominator > 0
    names = sorted(set(first[enters])), sorted(set(second[enters]))
    weights = [rng.integers(0, 4, (5, len(levels))).astype(float) for levels in names]
    expected = []
    for draw in range(5):
        top = bottom = 0.0
        for i, level in enumerate(names[0]):
            for j, other in enumerate(names[1]):
                for s in range(n):
                    if enters[s] and first[s] == level and second[s] == other:
                        top += weights[0][draw, i] * weights[1][draw, j] * numerator[s]
                        bottom += weights[0][draw, i] * weights[1][draw, j] * denominator[s]
        expected.append(top / bottom)
    table = Crossed.of(numerator, denominator, first, second)
    np.testing.assert_allclose(table.ratios(*weights), expected, rtol=1e-12)


@pytest.mark.parametrize("spread", [(1.0, 0.5, 0.2), (0.3, 1.0, 0.0), (0.0, 0.0, 1.0)])
def test_the_variance_is_that_of_the_pigeonhole_bootstrap(spread):
    # Its expectation over complete tables of I x J: each weight is a product of two multinomial counts, so
    # V = A (I-1)/I^2 + B (J-1)/J^2 + E ((2-1/I)(2-1/J) - 1) / (IJ) with the variances A, B and E of the three effects.
    rng = np.random.default_rng(2)
    i, j = 20, 12
    expected = (
        spread[0] ** 2 * (i - 1) / i**2
        + spread[1] ** 2 * (j - 1) / j**2
        + spread[2] ** 2 * ((2 - 1 / i) * (2 - 1 / j) - 1) / (i * j)
    )
    found = []
    for seed in range(300):
        values, rows, columns = crossed_table(rng, (i, j), spread)
        table = Crossed.of(values, np.ones(values.size), rows, columns)
        found.append(resampled(table, Bootstrap(seed, 200)).var())
    error = np.std(found) / math.sqrt(len(found))
    assert np.mean(found) == pytest.approx(expected, abs=4 * error)
    assert error < 0.05 * expected


def test_the_interval_covers_the_mean_where_clusters_of_one_factor_do_not():
    rng = np.random.default_rng(3)
    levels, spread, mean, trials = (30, 25), (0.1, 0.1, 0.05), 1.0, 200
    covered = {"both": 0, "one": 0}
    for seed in range(trials):
        values, rows, columns = crossed_table(rng, levels, spread, mean)
        ones = np.ones(values.size)
        both = two_way_interval(Crossed.of(values, ones, rows, columns), Transform.IDENTITY, Bootstrap(seed, 400))
        one = cluster_interval(values, ones, rows * 100 + columns, Scale(Kind.POSITIVE), Bootstrap(seed, 400))
        covered["both"] += both.low <= mean <= both.high
        covered["one"] += one.low <= mean <= one.high
    assert covered["both"] / trials > 0.9
    assert covered["one"] / trials < 0.6


def test_a_root_is_taken_of_both_ends():
    rng = np.random.default_rng(4)
    values, rows, columns = crossed_table(rng, (10, 9), (0.1, 0.1, 0.1), 2.0)
    table = Crossed.of(values, np.ones(values.size), rows, columns)
    plain, root = (two_way_interval(table, transform) for transform in (Transform.IDENTITY, Transform.SQRT))
    assert (root.low, root.high) == (math.sqrt(plain.low), math.sqrt(plain.high))


def test_few_levels_of_either_factor_give_no_interval():
    values, rows, columns = crossed_table(np.random.default_rng(5), (20, 7), (1.0, 1.0, 1.0))
    interval = two_way_interval(Crossed.of(values, np.ones(140), rows, columns), Transform.IDENTITY)
    assert (interval.low, interval.high, interval.n_clusters) == (None, None, 7)
    assert interval.reason == "7 levels: fewer than the 8 an interval needs"

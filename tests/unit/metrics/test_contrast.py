from __future__ import annotations

import numpy as np
import pytest

from mlipbench.metrics.contrast import Estimate, gap
from mlipbench.metrics.statistics import cluster_interval
from mlipbench.metrics.values import Kind, Scale


def test_the_gap_is_the_mean_of_the_others_minus_the_base() -> None:
    base, first, second = (Estimate(value, None, None) for value in (2.0, 5.0, 1.0))
    assert gap(base, [first, second]) == Estimate((5.0 + 1.0) / 2 - 2.0, None, None)


def test_the_ends_are_recovered_from_those_of_the_parts() -> None:
    found = gap(Estimate(2.0, 1.5, 3.0), [Estimate(6.0, 5.0, 8.0), Estimate(4.0, 2.0, 5.0)])
    # by hand: 3 - sqrt(1² + 0.5² + 1²) and 3 + sqrt(0.5² + 1² + 0.5²)
    assert found == pytest.approx((3.0, 3.0 - np.sqrt(2.25), 3.0 + np.sqrt(1.5)))


def test_shares_of_nothing_keep_their_uncertainty() -> None:
    assert gap(Estimate(0.0, 0.0, 0.3), [Estimate(0.0, 0.0, 0.4)]) == pytest.approx((0.0, -0.3, 0.4))


def test_a_part_without_an_interval_leaves_none() -> None:
    assert gap(Estimate(2.0, 1.0, 3.0), [Estimate(3.0, None, None)]) == Estimate(1.0, None, None)


@pytest.mark.parametrize("n", [12, 40])
def test_the_interval_covers_the_truth(n: int) -> None:
    rng, covered, trials = np.random.default_rng(2), 0, 300

    def measured(mean: float, spread: float, size: int) -> Estimate:
        errors = rng.lognormal(np.log(mean) - spread**2 / 2, spread, size)  # of this mean
        interval = cluster_interval(errors, np.ones(size), np.arange(size), Scale(Kind.POSITIVE))
        return Estimate(float(errors.mean()), interval.low, interval.high)

    for _ in range(trials):
        found = gap(measured(2.0, 0.5, n), [measured(3.0, 0.8, n), measured(4.0, 0.3, 2 * n)])
        covered += found.low <= 1.5 <= found.high
    assert 0.92 <= covered / trials <= 0.98

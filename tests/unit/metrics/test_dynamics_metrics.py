"""Metrics over replicas, against hand computation and tables of Student's t."""

import dataclasses
import math

import numpy as np
import pytest

from mlipbench.metrics.definition import evaluate
from mlipbench.metrics.dynamics import DYNAMICS_METRICS, ReplicaScores, indistinguishable_replicas, mean_estimate
from mlipbench.metrics.values import Direction

T_4 = 2.776445  # 97.5 % quantile of Student's t with four degrees of freedom, from tables


def scores(n=5, **columns):
    filled = {field.name: np.full(n, np.nan) for field in dataclasses.fields(ReplicaScores)}
    filled |= {"n_atoms": np.full(n, 8), "horizon": np.full(n, 50.0), "step": np.full(n, 0.25)}
    return ReplicaScores(**(filled | {name: np.asarray(column, dtype=float) for name, column in columns.items()}))


def value_of(name, given):
    return evaluate(DYNAMICS_METRICS[name], given, np.arange(len(given.n_atoms)))


def test_the_mean_has_students_interval():
    values = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    found = mean_estimate(values)
    half = T_4 * math.sqrt(2.5 / 5)
    assert found.value == 3.0
    assert found.low == pytest.approx(3 - half, abs=1e-6)
    assert found.high == pytest.approx(3 + half, abs=1e-6)


def test_what_cannot_be_negative_is_cut_at_zero_and_replicas_without_a_value_are_counted():
    found = mean_estimate(np.array([0.0, 0.0, 3.0, np.nan]), "why")
    assert found.low == 0.0
    assert found.reason == "1 of 4 replicas have no value: why"
    assert mean_estimate(np.array([1.0, 2.0])).reason == "2 replicas are too few for an interval"
    assert mean_estimate(np.full(3, np.nan)).value is None


def test_five_survivors_are_bounded_by_the_binomial():
    """Without a failure the lower bound of survival is 0.025^(1/5) = 0.4782 (Clopper and Pearson)."""
    alive = scores(stable=[50.0] * 5, failed=[0] * 5)
    found = value_of("stability", alive)
    assert (found.value, found.ci_high) == (50.0, 50.0)
    assert found.ci_low == pytest.approx(50 * 0.025**0.2)
    share = value_of("survived", alive)
    assert (share.value, share.ci_high) == (1.0, 1.0)
    assert share.ci_low == pytest.approx(0.025**0.2)


def test_what_is_censored_counts_as_stable_and_in_the_worst_case_as_collapsed():
    """Kaplan and Meier: of five, one collapses at 10 ps and one is censored at 20: 10 + 40 * 4/5 = 42 ps."""
    given = scores(stable=[10.0, 20.0, 50.0, 50.0, 50.0], failed=[1, 0, 0, 0, 0])
    assert value_of("stability", given).value == pytest.approx(42.0)
    assert "1 of 5 replicas ended for reasons that are not physical, and are censored" in str(
        value_of("stability", given).reason
    )
    assert value_of("stability_worst_case", given).value == pytest.approx(36.0)
    assert value_of("survived", given).value == pytest.approx(0.6)


def test_speed_is_that_of_the_batch():
    """1,000 steps of 0.25 fs a second are 21.6 ns a day."""
    given = scores(steps_per_second=[1000.0] * 5, speed_half=[100.0] * 5)
    found = value_of("ns_per_day", given)
    assert found.value == pytest.approx(21.6)
    assert (found.ci_low, found.ci_high) == (pytest.approx(19.44), pytest.approx(23.76))
    assert value_of("steps_per_second", scores(steps_per_second=[7.0] * 5)).ci_low is None


def test_drift_is_judged_by_its_size():
    assert value_of("energy_drift", scores(drift=[-1.0, 1.0, -1.0, 1.0, 1.0])).value == 1.0


def test_models_are_told_apart_by_their_paired_differences():
    """Differences of 0.1 ± 0.01 exclude 0 by far although the replicas scatter by 10; those of 0 ± 1 do not."""
    rng = np.random.default_rng(0)
    base = rng.normal(0, 10, 5)
    values = {"best": base, "worse": base + 0.1 + rng.normal(0, 0.01, 5), "like": base + np.array([1, -1, 1, -1, 0.1])}
    assert indistinguishable_replicas(values, Direction.LOWER) == {"best", "like"}
    assert indistinguishable_replicas({"a": base, "b": base}, Direction.LOWER) == {"a", "b"}
    assert indistinguishable_replicas({"a": base[:2], "b": base[:2]}, Direction.LOWER) == frozenset()

"""Metrics over replicas, against hand computation and tables of Student's t."""

import dataclasses
import math

import numpy as np
import pytest

from mlipbench.metrics.definition import evaluate
from mlipbench.metrics.dynamics import DYNAMICS_METRICS, ReplicaScores, mean_estimate, rank_replicas

T_4 = 2.776445  # 97.5 % quantile of Student's t with four degrees of freedom, from tables


def scores(n=5, **columns):
    filled = {field.name: np.full(n, np.nan) for field in dataclasses.fields(ReplicaScores)}
    filled |= {"n_atoms": np.full(n, 8), "horizon": np.full(n, 50.0), "step": np.full(n, 0.25)}
    return ReplicaScores(**(filled | {name: np.asarray(column, dtype=float) for name, column in columns.items()}))


def ranks_of(name, models):
    return rank_replicas(DYNAMICS_METRICS[name], models)


def best_of(name, models):
    return {model for model, rank in ranks_of(name, models).items() if rank.low == 1}


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
    assert mean_estimate(np.array([1.0, 2.0])).reason == "too few replicas for an interval: 2"
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
    assert best_of("rdf_mae", {name: scores(rdf_mae=column) for name, column in values.items()}) == {"best", "like"}
    assert ranks_of("rdf_mae", {name: scores(rdf_mae=base) for name in "ab"}) == {"a": (1, 2), "b": (1, 2)}
    assert best_of("rdf_mae", {name: scores(2, rdf_mae=base[:2]) for name in "ab"}) == set()


def test_times_of_stability_are_told_apart_without_the_pairs_that_were_censored():
    """Differences of 20, 21, 22, 23 ps, and 24 ± 44 in pairs with a crash, which say nothing of the model."""
    stable = scores(6, stable=[50.0, 49.0, 48.0, 47.0, 1.0, 2.0], failed=[0, 1, 1, 1, 0, 0])
    short = scores(6, stable=[30.0, 28.0, 26.0, 24.0, 45.0, 46.0], failed=[1] * 6)
    assert best_of("stability", {"stable": stable, "short": short}) == {"stable"}
    assert best_of("stability_worst_case", {"stable": stable, "short": short}) == {"stable", "short"}


def test_models_that_are_censored_everywhere_are_not_told_apart():
    crashed = scores(stable=[50.0] * 3 + [1.0] * 2, failed=[0] * 5)
    fallen = scores(stable=[20.0, 20.1, 20.2, 20.3, 20.4], failed=[1] * 5)
    assert best_of("stability", {"crashed": crashed, "fallen": fallen}) == {"crashed"}  # three pairs of 30 ps
    crashed = scores(stable=[50.0] * 2 + [1.0] * 3, failed=[0] * 5)
    assert best_of("stability", {"crashed": crashed, "fallen": fallen}) == {"crashed", "fallen"}  # two pairs


def test_diffusivity_has_the_interval_of_all_blocks():
    """Replicas with the blocks 1, 3; 2, 4; 6: value (2 x 2 + 2 x 3 + 6) / 5 = 3.2, variance 14.8 / 4."""
    given = scores(
        4, diffusivity=[2.0, 3.0, 6.0, np.nan], diffusion_blocks=[2, 2, 1, np.nan], diffusion_mean=[2, 3, 6, np.nan],
        diffusion_spread=[1, 1, 0, np.nan], diffusivity_reference=[1.0, 1.0, 1.0, np.nan],
    )  # fmt: skip
    found, half = value_of("diffusivity", given), T_4 * math.sqrt(14.8 / 4 / 5)
    assert (found.value, found.n) == (pytest.approx(3.2), 3)
    assert (found.ci_low, found.ci_high) == (pytest.approx(3.2 - half), pytest.approx(3.2 + half))
    assert found.reason == "1 of 4 replicas have no value: they were not stable for long enough"
    error = value_of("diffusivity_error", given)
    assert (error.value, error.ci_low, error.ci_high) == (
        pytest.approx(2.2), 0.0, pytest.approx(2.2 + half),
    )  # fmt: skip
    far = dataclasses.replace(given, diffusivity_reference=np.full(4, 10.0))
    error = value_of("diffusivity_error", far)
    assert (error.ci_low, error.ci_high) == (pytest.approx(6.8 - half), pytest.approx(6.8 + half))
    assert value_of("diffusivity_error", scores(4)).value is None

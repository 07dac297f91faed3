"""Ranks: what can be worked out by hand, agreement with the paired test, invariances, and equal models."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlipbench.metrics.ranks import Rank, rank_models, ranks_of
from mlipbench.metrics.resampling import Bootstrap
from mlipbench.metrics.statistics import Scale, paired_difference
from mlipbench.metrics.values import Direction, Kind, Transform

POSITIVE = Scale(Kind.POSITIVE)
ROOT = Scale(Kind.POSITIVE, Transform.SQRT)
COSINE = Scale(Kind.BOUNDED)
FRACTION = Scale(Kind.FRACTION)


def models(n, *, seed=0, **offsets):
    """Return models that share a common error plus an offset and noise of their own."""
    rng = np.random.default_rng(seed)
    common = 1.0 + rng.random(n)
    return {name: (common + offset + 0.05 * rng.random(n), np.ones(n)) for name, offset in offsets.items()}


def ranked(values, clusters, direction=Direction.LOWER, scale=POSITIVE, bootstrap=None):
    return rank_models(values, clusters, direction, scale, bootstrap)


def test_ranks_by_hand():
    # a is better than c and d, b than d; the others cannot be told apart.
    better = np.zeros((4, 4), dtype=bool)
    better[0, 2] = better[0, 3] = better[1, 3] = True
    assert ranks_of(better) == (Rank(1, 2), Rank(1, 3), Rank(2, 4), Rank(3, 4))


def test_models_far_apart_have_one_rank_each():
    values = models(60, c=0.6, a=0.0, b=0.3)
    assert ranked(values, np.arange(60)) == {"a": (1, 1), "b": (2, 2), "c": (3, 3)}
    assert ranked(values, np.arange(60), Direction.HIGHER) == {"a": (3, 3), "b": (2, 2), "c": (1, 1)}


def test_models_that_cannot_be_told_apart_share_their_ranks():
    values = models(100, a=0.0, b=0.3)
    values["copy"] = values["a"]
    assert ranked(values, np.arange(100)) == {"a": (1, 2), "copy": (1, 2), "b": (3, 3)}


def test_few_clusters_and_single_models_have_no_rank():
    values = models(70, a=0.0, b=5.0)
    assert ranked(values, np.arange(70) % 7) == {}
    assert ranked(values, np.arange(70) % 35) == {"a": (1, 1), "b": (2, 2)}
    assert ranked(models(40, a=0.0), np.arange(40)) == {}
    assert ranked({}, np.arange(0)) == {}


def test_models_are_compared_where_all_have_something():
    # The model b is worse on every common structure; what only b has, and is easy, does not help it.
    values = models(60, a=0.0, b=0.3)
    a, b = values["a"], values["b"]
    missing = np.arange(60) >= 40
    a = (np.where(missing, 0.0, a[0]), np.where(missing, 0.0, a[1]))
    b = (np.where(missing, 0.001, b[0]), b[1])
    assert b[0].sum() / 60 < a[0].sum() / 40
    assert ranked({"a": a, "b": b}, np.arange(60)) == {"a": (1, 1), "b": (2, 2)}


def test_models_without_anything_are_left_out():
    values = models(40, a=0.0, b=1.0) | {"failed": (np.zeros(40), np.zeros(40))}
    assert ranked(values, np.arange(40)) == {"a": (1, 1), "b": (2, 2)}


def test_a_model_without_errors_is_the_best():
    values = models(40, a=0.0, b=1.0) | {"perfect": (np.zeros(40), np.ones(40))}
    for scale in (POSITIVE, ROOT):
        assert ranked(values, np.arange(40), scale=scale) == {"perfect": (1, 1), "a": (2, 2), "b": (3, 3)}


def test_models_that_differ_alike_everywhere_are_told_apart():
    values = {"a": (np.full(10, 0.1), np.ones(10)), "b": (np.full(10, 0.2), np.ones(10))}
    assert ranked(values, np.arange(10)) == {"a": (1, 1), "b": (2, 2)}


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6), scale=st.sampled_from([POSITIVE, ROOT, COSINE, FRACTION]))
def test_two_models_are_told_apart_where_their_paired_difference_excludes_0(seed, scale):
    rng = np.random.default_rng(seed)
    a, b = ((rng.random(60) ** power, np.ones(60)) for power in (1.0, rng.uniform(1.0, 2.0)))
    clusters, bootstrap = rng.integers(0, 20, 60), Bootstrap(resamples=500)
    found = ranked({"a": a, "b": b}, clusters, scale=scale, bootstrap=bootstrap)
    p_value = paired_difference(a, b, clusters, scale, bootstrap).p_value
    assert (found["a"] != (1, 2)) == (p_value <= 0.05)


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 10**6))
def test_ranks_do_not_depend_on_order_and_names(seed):
    rng = np.random.default_rng(seed)
    values = {name: (rng.random(60) + 0.1 * place, np.ones(60)) for place, name in enumerate("abcd")}
    clusters, order, names = rng.integers(0, 12, 60), rng.permutation(60), rng.permutation(99)[:12]
    shuffled = {name: (values[name][0][order], values[name][1][order]) for name in "dbca"}
    bootstrap = Bootstrap(resamples=200)
    one = ranked(values, clusters, bootstrap=bootstrap)
    assert one == ranked(shuffled, names[clusters[order]], bootstrap=bootstrap)


def test_equal_models_are_rarely_torn_apart():
    rng, torn = np.random.default_rng(7), 0
    for trial in range(60):
        common = rng.normal(size=40)
        values = {f"m{i}": (np.exp(0.5 * (common + rng.normal(size=40))), np.ones(40)) for i in range(6)}
        found = ranked(values, np.arange(40), bootstrap=Bootstrap(trial, 400))
        torn += any(rank != (1, 6) for rank in found.values())
    assert torn <= 8  # 5 % of 60 is 3 ± 1.7


def test_many_models_and_clusters_stay_within_time():
    rng = np.random.default_rng(3)
    values = {f"m{i:02}": (rng.random(5000) * (1 + 0.1 * i), np.ones(5000)) for i in range(12)}
    found = ranked(values, np.arange(5000), bootstrap=Bootstrap(resamples=200))
    assert found["m00"] == (1, 1)
    assert found["m11"] == (12, 12)


def test_impossible_numbers_are_refused():
    with pytest.raises(ValueError, match="structure 1"):
        ranked({"a": (np.array([1.0, -1.0]), np.ones(2)), "b": (np.ones(2), np.ones(2))}, np.arange(2))

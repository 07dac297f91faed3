"""Ranks of models as intervals, from all paired comparisons of a column at once.

A model's rank lies between 1 + the number of models that are better than it and n - the number of models that are
worse, as far as these can be told apart at 5 % over all pairs together (Mogstad, Romano, Shaikh and Wilhelm, Review of
Economic Studies 91 (2024) 476). All models are resampled together, and a difference is held against the largest pivot
of all differences not larger than itself (step-down max-T: Romano and Wolf, Journal of the American Statistical
Association 100 (2005) 94), so that what comparisons of the same models on the same structures have in common counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

from mlipbench.metrics.resampling import (
    CHUNK,
    ROUNDING,
    Bootstrap,
    Link,
    cluster_sums,
    counts_of_draws,
    deletions,
    grouped,
    jackknife_error,
    linked,
    require_range,
    rounding_of,
    slopes,
)
from mlipbench.metrics.statistics import MIN_CLUSTERS
from mlipbench.metrics.values import Direction, Kind, Transform

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlipbench.metrics.statistics import Sums
    from mlipbench.metrics.values import Scale
    from mlipbench.typing import AnyArray, BoolArray, FloatArray, IntArray

    _Pairs: TypeAlias = tuple[IntArray, IntArray]


class Rank(NamedTuple):
    """The ranks that a model can have among n; 1 is the best.

    Attributes:
        low: 1 + number of models found to be better.
        high: n - number of models found to be worse.
    """

    low: int
    high: int


def ranks_of(better: BoolArray) -> tuple[Rank, ...]:
    """Return the rank of each model.

    Args:
        better: Shape (n_models, n_models), whether the model of the row was found to be better than that of the column.
    """
    n = len(better)
    found = zip(better.sum(axis=0).tolist(), better.sum(axis=1).tolist(), strict=True)
    return tuple(Rank(1 + above, n - below) for above, below in found)


def rank_models(
    values: Mapping[str, Sums],
    clusters: AnyArray,
    direction: Direction,
    scale: Scale,
    bootstrap: Bootstrap | None = None,
) -> dict[str, Rank]:
    """Rank models by one metric on the structures that all of them have.

    The statistic of a pair is that of `mlipbench.metrics.statistics.paired_difference`: the difference over its
    standard error, for errors that of their logarithms (of all models of the column, or of none where one makes no
    error at all).

    Args:
        values: Numerator and denominator by model, arrays of shape (n_structures,). Models without any structure are
            left out.
        clusters: Shape (n_structures,), which structures belong together (any labels).
        direction: Which way the metric improves.
        scale: Range of the metric and its transform.
        bootstrap: Seed, resamples and level; None for the defaults.

    Returns:
        The rank by model; empty where fewer than two models or `MIN_CLUSTERS` clusters are common. The best model, and
        every other that none was found to be better than, has 1 as its lowest rank.

    Raises:
        ValueError: If shapes differ, or a number is negative where that is impossible, NaN or infinite.
    """
    bootstrap = bootstrap or Bootstrap()
    for sums in values.values():
        require_range(*sums, scale.kind)
    models = sorted(model for model, (_, den) in values.items() if np.any(den > 0))
    if len(models) < 2:  # noqa: PLR2004 - one model has no rank
        return {}
    common = np.logical_and.reduce([values[model][1] > 0 for model in models])
    table = cluster_sums([column for model in models for column in values[model]], clusters, common)
    if len(table) < MIN_CLUSTERS:
        return {}
    totals = table.sum(axis=0)
    link = _link(totals[::2] / totals[1::2], scale)
    pairs = np.triu_indices(len(models), k=1)
    statistics = _statistics(table, link, pairs)
    told = _adjusted(statistics, _pivots(table, link, pairs, bootstrap)) <= 1.0 - bootstrap.level
    first_is_better = (statistics < 0.0) == (direction is Direction.LOWER)
    better = np.zeros((len(models), len(models)), dtype=np.bool_)
    better[pairs] = told & first_is_better
    better.T[pairs] = told & ~first_is_better
    return dict(zip(models, ranks_of(better), strict=True))


def _link(ratios: FloatArray, scale: Scale) -> Link:
    if scale.kind is Kind.POSITIVE and ratios.min() > 0.0:
        return Link.LOG
    return Link.ROOT if scale.transform is Transform.SQRT else Link.IDENTITY


def _statistics(table: FloatArray, link: Link, pairs: _Pairs) -> FloatArray:
    """Return the difference of each pair over its standard error, shape (n_pairs,); infinite where that is 0."""
    totals = table.sum(axis=0)
    ratios = totals[::2] / totals[1::2]
    levels, changes = linked(ratios, link), deletions(table, link)
    first, second = pairs
    differences = levels[first] - levels[second]
    errors = np.array([float(jackknife_error(changes[:, i] - changes[:, j])) for i, j in zip(*pairs, strict=True)])
    smallest = rounding_of(ratios, link)
    found = np.abs(differences) > smallest
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(found, differences / np.where(errors > smallest, errors, 0.0), 0.0)


def _pivots(table: FloatArray, link: Link, pairs: _Pairs, bootstrap: Bootstrap) -> FloatArray:
    """Return |difference* - difference| / se* of each pair over joint resamples, shape (resamples, n_pairs).

    The standard error is linearised in each resample. Where it is 0 the pivot is infinite, or 0 where nothing deviates.
    """
    rng = np.random.default_rng(bootstrap.seed)
    groups = grouped(table, rng)
    size = max(1, CHUNK // groups.size)
    starts = range(0, bootstrap.resamples, size)
    draws = (counts_of_draws(len(groups), min(size, bootstrap.resamples - start), rng) for start in starts)
    return np.concatenate([_resampled(groups, counts, link, pairs) for counts in draws])


@np.errstate(divide="ignore", invalid="ignore")  # a resample without any error; the pivot becomes inf
def _resampled(groups: FloatArray, counts: FloatArray, link: Link, pairs: _Pairs) -> FloatArray:
    """Return the pivots of some resamples, shape (m, n_pairs).

    Args:
        groups: Shape (n_groups, 2 * n_models), numerators and denominators in turns.
        counts: Shape (m, n_groups), how often each group is drawn.
        link: Scale of the ratios.
        pairs: Both models of each pair.
    """
    first, second = pairs
    n, totals, resampled = len(groups), groups.sum(axis=0), counts @ groups
    ratios = resampled[:, ::2] / resampled[:, 1::2]
    residuals = groups[:, ::2] - ratios[:, None] * groups[:, 1::2]
    residuals *= (slopes(ratios, link) / resampled[:, 1::2])[:, None]
    products = (residuals * counts[:, :, None]).swapaxes(1, 2) @ residuals
    squares = np.diagonal(products, axis1=1, axis2=2)
    squares = squares[:, first] + squares[:, second]
    variances = squares - 2.0 * products[:, first, second]
    variances[variances <= ROUNDING * squares] = 0.0
    deviations = linked(ratios, link) - linked(totals[::2] / totals[1::2], link)
    deviations = np.abs(deviations[:, first] - deviations[:, second])
    pivots = deviations / np.sqrt(variances * n / (n - 1))
    pivots[deviations <= ROUNDING] = 0.0
    return np.where(np.isnan(pivots), np.inf, pivots)


def _adjusted(statistics: FloatArray, pivots: FloatArray) -> FloatArray:
    """Return p-values that hold over all pairs together, by step-down max-T.

    Args:
        statistics: Shape (n_pairs,).
        pivots: Shape (resamples, n_pairs).

    Returns:
        Shape (n_pairs,).
    """
    sizes = np.abs(statistics)
    order = np.argsort(-sizes, kind="stable")
    largest = np.maximum.accumulate(pivots[:, order[::-1]], axis=1)[:, ::-1]
    exceeding = np.count_nonzero(largest >= sizes[order], axis=0)
    adjusted = np.empty_like(sizes)
    adjusted[order] = np.maximum.accumulate((1 + exceeding) / (1 + len(pivots)))
    return adjusted

"""Intervals and comparisons for metrics that are ratios of sums over clustered structures.

Structures of one relaxation, molecule or trajectory block resemble each other, so clusters are what is resampled. Every
function collapses structures to sums per cluster first and then works on f = Σ numerator / Σ denominator:

- The standard error is the linearised one of a ratio (Cochran, Sampling Techniques, 3rd ed., sections 6.3 and 9A.2):
  se² = G/(G-1) Σ_g (n_g - R d_g)² / (Σ_g d_g)² with G clusters.
- Errors and cosines get the symmetric studentised cluster bootstrap (Hall, The Bootstrap and Edgeworth Expansion, 1992,
  section 3.6): the quantile of |f* - f| / se* over resamples times se, errors in the logarithm.
- Fractions get Clopper-Pearson with an effective sample size (Korn and Graubard, Survey Methodology 24 (1998) 193), its
  degrees of freedom taken from the clusters in which the rarer outcome occurs at all.

Below `MIN_CLUSTERS` clusters there is no interval. Nothing depends on the order of structures or on how clusters are
named: cluster sums are put in an order of their own before anything is drawn.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from mlipbench.metrics.resampling import (
    ROUNDING,
    Bootstrap,
    Link,
    cluster_sums,
    fraction_limits,
    require_range,
    studentise,
)
from mlipbench.metrics.values import Direction, Kind, Scale, Transform

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlipbench.typing import AnyArray, FloatArray

__all__ = [
    "MIN_CLUSTERS",
    "Bootstrap",
    "Interval",
    "PairedDifference",
    "Scale",
    "Sums",
    "cluster_interval",
    "holm",
    "indistinguishable_from_best",
    "paired_difference",
    "ratio_of_sums",
]

MIN_CLUSTERS: Final = 8
"""Fewer clusters say nothing trustworthy about their spread."""

Sums: TypeAlias = "tuple[FloatArray, FloatArray]"
"""Numerator and denominator of a metric, each of shape (n_structures,)."""


@dataclass(frozen=True, slots=True)
class Interval:
    """An interval, or the reason why there is none.

    Attributes:
        low: Lower end in the metric's unit, None where there is no interval.
        high: Upper end in the metric's unit, None where there is no interval.
        n_clusters: Number of clusters that entered.
        reason: Why there is no interval, or why it has no width.
    """

    low: float | None
    high: float | None
    n_clusters: int
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """Metric of model a minus metric of model b on the structures that both have.

    Attributes:
        difference: The difference in the metric's unit; None where no structure is common.
        low: Lower end of its interval, None where there is none.
        high: Upper end of its interval, None where there is none.
        p_value: Two-sided p-value of no difference, None where it cannot be judged.
        n: Number of common structures.
        n_clusters: Number of clusters among them.
        reason: Why something is missing, or why the interval has no width.
    """

    difference: float | None
    low: float | None
    high: float | None
    p_value: float | None
    n: int
    n_clusters: int
    reason: str | None = None


def ratio_of_sums(numerator: FloatArray, denominator: FloatArray, transform: Transform = Transform.IDENTITY) -> float:
    """Return Σ numerator / Σ denominator after the transform, summed exactly so that no order of structures matters.

    Args:
        numerator: Shape (n_structures,).
        denominator: Shape (n_structures,), not negative.
        transform: Applied to the ratio.

    Returns:
        The metric; NaN if the denominators sum to 0, inf if the numerators overflow.
    """
    total = math.fsum(denominator)
    if total == 0.0:
        return math.nan
    try:
        ratio = math.fsum(numerator) / total
    except OverflowError:
        return math.inf
    return math.sqrt(ratio) if transform is Transform.SQRT else ratio


def cluster_interval(
    numerator: FloatArray, denominator: FloatArray, clusters: AnyArray, scale: Scale, bootstrap: Bootstrap | None = None
) -> Interval:
    """Return the interval of a ratio of sums over clustered structures.

    Measured coverage of the 95 % interval (1,000 resamples; 2,000 trials up to 100 clusters, 400 above, so ± 0.005 and
    ± 0.011) for lognormal errors in G clusters of 5 to 39 structures. `sigma` is the standard deviation of the
    logarithm (0.5: moderate, 1: strong, 2: extreme skew), `rho` the share of its variance that a cluster has in common.
    Where it falls short, the truth lies above the interval.

    =====  ===  =====  =====  =====  =====  =====  ======
    sigma  rho  G = 8  12     30     100    400    2000
    =====  ===  =====  =====  =====  =====  =====  ======
    0.5    0.0  0.954  0.962  0.951  0.947  0.950  0.943
    0.5    0.4  0.963  0.953  0.958  0.945  0.925  0.953
    0.5    0.8  0.945  0.944  0.947  0.946  0.968  0.965
    1.0    0.0  0.955  0.956  0.949  0.946  0.958  0.948
    1.0    0.4  0.937  0.927  0.940  0.949  0.935  0.953
    1.0    0.8  0.923  0.916  0.923  0.938  0.968  0.950
    2.0    0.0  0.886  0.880  0.895  0.892  0.927  0.935
    2.0    0.4  0.874  0.865  0.883  0.915  0.930  0.945
    2.0    0.8  0.807  0.815  0.821  0.870  0.900  0.932
    =====  ===  =====  =====  =====  =====  =====  ======

    At (1.0, 0.8) with 8 clusters the percentile bootstrap covers less than 0.81, Student's t on the logarithm 0.88, the
    equal-tailed studentised bootstrap 0.90. Cosines (skewed, rho 0.2 and 0.8): 0.929 to 0.954 for 8 to 400 clusters.
    Fractions of 0.005 to 0.95 with correlation 0 to 0.8 within 8 to 1,000 clusters: 0.942 to 1.000, where Korn and
    Graubard's own degrees of freedom (clusters minus one) go down to 0.85.

    Args:
        numerator: Shape (n_structures,).
        denominator: Shape (n_structures,); structures with 0 are left out.
        clusters: Shape (n_structures,), which structures belong together (any labels).
        scale: Range of the metric and its transform.
        bootstrap: Seed, resamples and level; None for the defaults.

    Returns:
        The interval within the metric's range. If all clusters agree it has no width, and `reason` says so: they tell
        nothing about their spread. Fractions of all or nothing get the exact binomial bound instead.

    Raises:
        ValueError: If shapes differ, or a number is negative where that is impossible, NaN or infinite.
    """
    bootstrap = bootstrap or Bootstrap()
    require_range(numerator, denominator, scale.kind)
    sums = cluster_sums((numerator, denominator), clusters, denominator > 0)
    n_clusters = len(sums)
    if n_clusters < MIN_CLUSTERS:
        return Interval(None, None, n_clusters, _too_few(n_clusters))
    if scale.kind is Kind.FRACTION:
        return Interval(*fraction_limits(sums, bootstrap.level), n_clusters)
    positive = scale.kind is Kind.POSITIVE
    total, weight = sums.sum(axis=0)
    ratio = float(total / weight)
    if positive and ratio == 0.0:
        return Interval(0.0, 0.0, n_clusters, _no_width(n_clusters))
    error, pivots = studentise(sums, Link.LOG if positive else Link.IDENTITY, bootstrap)
    if error == 0.0:
        # The one value that all share; a root where the metric is one.
        value = math.sqrt(ratio) if scale.transform is Transform.SQRT else ratio
        return Interval(value, value, n_clusters, _no_width(n_clusters))
    half = error * float(np.quantile(pivots, bootstrap.level, method="higher"))
    with np.errstate(over="ignore"):
        ends = ratio * np.exp([-half, half]) if positive else np.array([ratio - half, ratio + half])
    if scale.kind is Kind.BOUNDED:
        ends = np.clip(ends, -1.0, 1.0)
    if scale.transform is Transform.SQRT:
        ends = np.sqrt(ends)
    if not np.isfinite(ends).all():
        return Interval(None, None, n_clusters, _no_spread(n_clusters))
    return Interval(float(ends[0]), float(ends[1]), n_clusters)


def paired_difference(
    a: Sums, b: Sums, clusters: AnyArray, scale: Scale, bootstrap: Bootstrap | None = None, *, as_ratio: bool = True
) -> PairedDifference:
    """Compare one metric of two models on the structures that both have.

    Both models are resampled together, so what makes a structure hard for both cancels. The pivot is the difference
    over its linearised standard error, for errors that of their logarithms; interval and p-value are symmetric in it
    and agree: the interval excludes 0 where the p-value is below 1 - level. For errors the interval is that of the
    ratio a / b, put as a difference at the value of b.

    Measured level (500 trials each, ± 0.02): two equal models with lognormal errors (sigma 0.5 and 1), with own and
    shared cluster effects, are told apart at 5 % in 0.042 to 0.074 of cases with 8 clusters, 0.020 to 0.052 with 12 and
    0.046 to 0.060 with 30. Five times larger errors with three times the spread are told apart at 0.05 / 6 in 0.65 of
    cases with 12 clusters; by the difference itself they would be in 0.06.

    Args:
        a: Numerator and denominator of one model, two arrays of shape (n_structures,).
        b: The same of the other model.
        clusters: Shape (n_structures,), which structures belong together (any labels).
        scale: Range of the metric and its transform.
        bootstrap: Seed, resamples and level; None for the defaults.
        as_ratio: Whether errors are compared by their ratio, which leaves out how well the value of b is known; False
            takes the difference itself, as for metrics that are no errors.

    Returns:
        The difference a - b. A model that equals the other everywhere gives 0 with p-value 1. Where all clusters show
        the same difference the interval has no width and the p-value is that of G equal signs, 2^(1-G).

    Raises:
        ValueError: If shapes differ, or a number is negative where that is impossible, NaN or infinite.
    """
    bootstrap = bootstrap or Bootstrap()
    for numerator, denominator in (a, b):
        require_range(numerator, denominator, scale.kind)
    common = (a[1] > 0) & (b[1] > 0)
    n = int(np.count_nonzero(common))
    if n == 0:
        return PairedDifference(None, None, None, None, 0, 0, "no structure that both models have")
    values = [ratio_of_sums(num[common], den[common], scale.transform) for num, den in (a, b)]
    difference = values[0] - values[1]
    sums = cluster_sums((*a, *b), clusters, common)
    n_clusters = len(sums)
    if n_clusters < MIN_CLUSTERS:
        return PairedDifference(difference, None, None, None, n, n_clusters, _too_few(n_clusters))
    # By their ratio: the spread of a poor model's errors must not hide that they are ten times as large.
    by_ratio = as_ratio and scale.kind is Kind.POSITIVE and min(values) > 0.0
    power = 2.0 if scale.transform is Transform.SQRT else 1.0
    statistic = power * math.log(values[0] / values[1]) if by_ratio else difference
    link = Link.LOG if by_ratio else Link.ROOT if power > 1.0 else Link.IDENTITY
    error, pivots = studentise(sums, link, bootstrap)
    if error == 0.0:
        p_value = 2.0 ** (1 - n_clusters) if abs(difference) > ROUNDING * max(map(abs, values)) else 1.0
        return PairedDifference(difference, difference, difference, p_value, n, n_clusters, _no_width(n_clusters))
    p_value = float(1 + np.count_nonzero(pivots >= abs(statistic) / error)) / (1 + pivots.size)
    half = error * float(np.quantile(pivots, bootstrap.level, method="higher"))
    ends = statistic + np.array([-half, half])
    if by_ratio:
        with np.errstate(over="ignore"):
            ends = values[1] * np.expm1(ends / power)
    if not (math.isfinite(half) and np.isfinite(ends).all()):
        return PairedDifference(difference, None, None, p_value, n, n_clusters, _no_spread(n_clusters))
    limit = {Kind.BOUNDED: 2.0, Kind.FRACTION: 1.0}.get(scale.kind, math.inf)
    low, high = np.clip(ends, -limit, limit)
    return PairedDifference(difference, float(low), float(high), p_value, n, n_clusters)


def holm(p_values: Sequence[float], family: int | None = None) -> FloatArray:
    """Adjust p-values for multiplicity (Holm, Scandinavian Journal of Statistics 6 (1979) 65).

    Args:
        p_values: The p-values of the comparisons made.
        family: Number of comparisons the error rate is held over, where more were possible than made; the others count
            as the largest of the family. None for those made.

    Returns:
        Adjusted p-values in the order given, at most 1: compare them with the level wanted for the whole family.

    Raises:
        ValueError: If a p-value is not in [0, 1] or the family is smaller than the list.
    """
    p = np.asarray(p_values, dtype=np.float64)
    size = p.size if family is None else family
    if size < p.size or not np.all((p >= 0.0) & (p <= 1.0)):
        msg = f"need p-values in [0, 1] and a family of at least their number, got {p.tolist()} and {size}"
        raise ValueError(msg)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * (size - np.arange(p.size))), 1.0)
    return adjusted


def indistinguishable_from_best(
    values: Mapping[str, Sums],
    clusters: AnyArray,
    direction: Direction,
    scale: Scale,
    bootstrap: Bootstrap | None = None,
) -> frozenset[str]:
    """Return the models that cannot be told apart from the best one.

    Compared on the structures that all models have. Which model is best is itself chosen from these data, so the family
    of Holm's correction is all pairs of models, not only those with the best: with ten equal models in 200 clusters the
    smaller family finds a false loser in 11 % of cases, all pairs in 3.5 % (200 trials).

    Args:
        values: Numerator and denominator by model, arrays of shape (n_structures,). Models without any structure are
            left out.
        clusters: Shape (n_structures,), which structures belong together (any labels).
        direction: Which way the metric improves.
        scale: Range of the metric and its transform.
        bootstrap: Seed, least number of resamples and level; None for the defaults.

    Returns:
        The best model and all whose paired difference to it does not exclude 0; all models where fewer than
        `MIN_CLUSTERS` clusters are common.

    Raises:
        ValueError: If shapes differ, or a number is negative where that is impossible, NaN or infinite.
    """
    bootstrap = bootstrap or Bootstrap()
    models = sorted(model for model, (_, den) in values.items() if np.any(den > 0))
    if not models:
        return frozenset()
    common = np.logical_and.reduce([values[model][1] > 0 for model in models])
    sums = {model: (values[model][0][common], values[model][1][common]) for model in models}
    if not common.any():
        return frozenset(models)
    sign = 1.0 if direction is Direction.LOWER else -1.0
    best = min(models, key=lambda model: sign * ratio_of_sums(*sums[model], scale.transform))
    others = [model for model in models if model != best]
    family = len(models) * len(others) // 2
    # The smallest p-value that resampling can give must reach below Holm's first step.
    resamples = max(bootstrap.resamples, math.ceil(2 * family / (1.0 - bootstrap.level)))
    finer = Bootstrap(bootstrap.seed, resamples, bootstrap.level)
    pairs = [paired_difference(sums[model], sums[best], clusters[common], scale, finer) for model in others]
    adjusted = holm([1.0 if pair.p_value is None else pair.p_value for pair in pairs], family)
    ties = (model for model, p in zip(others, adjusted, strict=True) if p > 1.0 - bootstrap.level)
    return frozenset((best, *ties))


def _too_few(n_clusters: int) -> str:
    """Say why there is no interval."""
    clusters = "1 cluster" if n_clusters == 1 else f"{n_clusters} clusters"
    return f"{clusters}: fewer than the {MIN_CLUSTERS} an interval needs"


def _no_width(n_clusters: int) -> str:
    """Say why an interval has no width."""
    return f"no width: all {n_clusters} clusters have the same value"


def _no_spread(n_clusters: int) -> str:
    """Say why an interval has no finite ends."""
    return f"{n_clusters} clusters, too few of which differ: the interval has no finite end"

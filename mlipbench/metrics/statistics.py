"""Intervals and comparisons for metrics that are ratios of sums over clustered structures.

Structures of one relaxation, molecule or trajectory block resemble each other, so clusters are what is resampled. Every
function collapses structures to sums per cluster first and then works on f = Σ numerator / Σ denominator:

- The standard error is the linearised one of a ratio (Cochran, Sampling Techniques, 3rd ed., sections 6.3 and 9A.2):
  se² = G/(G-1) Σ_g (n_g - R d_g)² / (Σ_g d_g)² with G clusters; of errors and cosines each term is divided by the
  square of what the other clusters hold, which is the jackknife's (`mlipbench.metrics.resampling.jackknife_error`).
- Errors and cosines get the symmetric studentised cluster bootstrap (Hall, The Bootstrap and Edgeworth Expansion, 1992,
  section 3.6): the quantile of |f* - f| / se* over resamples times se, errors in the logarithm.
- Fractions get Clopper-Pearson with an effective sample size (Korn and Graubard, Survey Methodology 24 (1998) 193), its
  degrees of freedom taken from the clusters in which the rarer outcome occurs at all.

Below `MIN_CLUSTERS` clusters there is no interval. Nothing depends on the order of structures or on how clusters are
named: cluster sums are put in an order of their own before anything is drawn.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from mlipbench.metrics.blocks import student_quantile
from mlipbench.metrics.resampling import (
    ROUNDING,
    Bootstrap,
    Link,
    cluster_sums,
    fraction_limits,
    require_range,
    studentise,
)
from mlipbench.metrics.values import Kind, Scale, Transform

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlipbench.typing import AnyArray, FloatArray

__all__ = [
    "MIN_CLUSTERS",
    "Bootstrap",
    "Interval",
    "PairedDifference",
    "Scale",
    "Sums",
    "cluster_interval",
    "design_effect",
    "holm",
    "paired_difference",
    "ratio_of_sums",
]

MIN_CLUSTERS: Final = 8
"""Fewer clusters say nothing trustworthy about their spread."""
POWER: Final = 0.8
"""Probability with which a minimum detectable difference is found."""

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
        detectable: Smallest difference that the test finds with a probability of `POWER`, None where that is not known.
    """

    difference: float | None
    low: float | None
    high: float | None
    p_value: float | None
    n: int
    n_clusters: int
    reason: str | None = None
    detectable: float | None = None


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

    ``docs/reference/statistics.md`` holds the coverage that was measured.

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

    The minimum detectable difference is (q + t) se with the critical value q of the test, which the bootstrap gives,
    and Student's quantile t of `POWER` with one degree of freedom less than clusters (Bloom, Evaluation Review 19
    (1995) 547, with q in the place of Student's); of errors, what an increase of the ratio by that makes at the value
    of b.

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
    reach = half + error * student_quantile(n_clusters - 1, POWER)
    ends = np.array([statistic - half, statistic + half, reach])
    if by_ratio:
        with np.errstate(over="ignore"):
            ends = values[1] * np.expm1(ends / power)
    if not (math.isfinite(half) and np.isfinite(ends[:2]).all()):
        return PairedDifference(difference, None, None, p_value, n, n_clusters, _no_spread(n_clusters))
    limit = {Kind.BOUNDED: 2.0, Kind.FRACTION: 1.0}.get(scale.kind, math.inf)
    low, high = np.clip(ends[:2], -limit, limit)
    detectable = float(ends[2]) if ends[2] <= min(limit, sys.float_info.max) else None
    return PairedDifference(difference, float(low), float(high), p_value, n, n_clusters, detectable=detectable)


def design_effect(numerator: FloatArray, denominator: FloatArray, clusters: AnyArray) -> float | None:
    """Return the variance of a ratio of sums over what it would be if its structures were independent.

    Both are linearised: G/(G-1) Σ_g u_g² over n/(n-1) Σ_i u_i² with u = numerator - R denominator (Kish, Survey
    Sampling, 1965, section 8.2). The structures are worth n divided by it independent ones.

    Args:
        numerator: Shape (n_structures,).
        denominator: Shape (n_structures,); structures with 0 are left out.
        clusters: Shape (n_structures,), which structures belong together (any labels).

    Returns:
        The design effect; None below `MIN_CLUSTERS` clusters and where structures do not differ.

    Raises:
        ValueError: If shapes differ.
    """
    enters = denominator > 0
    ratio = ratio_of_sums(numerator[enters], denominator[enters])
    residuals = np.where(enters, numerator - ratio * denominator, 0.0)
    largest = float(np.abs(residuals).max(initial=0.0))
    if largest <= ROUNDING * abs(ratio) * float(denominator.max(initial=0.0)):
        return None
    sums = cluster_sums((residuals / largest,), clusters, enters)[:, 0]
    n, n_clusters = int(np.count_nonzero(enters)), sums.size
    if n_clusters < MIN_CLUSTERS:
        return None
    apart = math.fsum(np.square(residuals / largest)) * n / (n - 1)
    return math.fsum(np.square(sums)) * n_clusters / (n_clusters - 1) / apart


def holm(p_values: Sequence[float]) -> FloatArray:
    """Adjust p-values for multiplicity (Holm, Scandinavian Journal of Statistics 6 (1979) 65).

    Args:
        p_values: The p-values of all comparisons that the error rate is held over.

    Returns:
        Adjusted p-values in the order given, at most 1: compare them with the level wanted for the whole family.

    Raises:
        ValueError: If a p-value is not in [0, 1].
    """
    p = np.asarray(p_values, dtype=np.float64)
    if not np.all((p >= 0.0) & (p <= 1.0)):
        msg = f"need p-values in [0, 1], got {p.tolist()}"
        raise ValueError(msg)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * (p.size - np.arange(p.size))), 1.0)
    return adjusted


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

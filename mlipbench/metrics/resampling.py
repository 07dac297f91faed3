"""Resampling clusters: what `statistics` builds its intervals and tests on.

Clusters are collapsed to sums first, and sums of sums are all that resampling needs: a statistic of Σn and Σd and its
linearised variance follow from Σn, Σd, Σn², Σnd and Σd², so that a resample costs one row of a matrix product.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

import numpy as np

from mlipbench.metrics.values import Kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlipbench.typing import AnyArray, BoolArray, FloatArray

MAX_GROUPS: Final = 2048
"""More clusters than this are dealt at random into so many groups of clusters before resampling."""
ROUNDING: Final = 1e-12
"""A standard error smaller than this share of the value is rounding."""
MIN_RESAMPLES: Final = 100
"""Fewer say nothing about a tail."""
_SIGNS: Final = (1.0, -1.0)
CHUNK: Final = 2_000_000
"""Draws held in memory at a time, about 60 MB."""


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """How intervals are resampled.

    Attributes:
        seed: Seed of the generator; equal seeds give equal intervals.
        resamples: Number of resamples.
        level: Probability that an interval covers the truth.

    Raises:
        ValueError: If there are fewer than 100 resamples or the level is not between 0 and 1.
    """

    seed: int = 0
    resamples: int = 2000
    level: float = 0.95

    def __post_init__(self) -> None:
        """Refuse what cannot give a quantile."""
        if self.resamples < MIN_RESAMPLES or not 0.0 < self.level < 1.0:
            msg = f"need {MIN_RESAMPLES} resamples or more and a level in (0, 1), got {self.resamples} and {self.level}"
            raise ValueError(msg)


class Link(Enum):
    """Scale on which a difference is divided by its standard error."""

    IDENTITY = auto()
    LOG = auto()
    ROOT = auto()


def require_range(numerator: FloatArray, denominator: FloatArray, kind: Kind) -> None:
    """Refuse sums that the metric cannot have."""
    if numerator.shape != denominator.shape or numerator.ndim != 1:
        msg = f"numerator and denominator differ in shape: {numerator.shape} and {denominator.shape}"
        raise ValueError(msg)
    good = np.isfinite(numerator) & np.isfinite(denominator) & (denominator >= 0)
    if kind not in {Kind.BOUNDED, Kind.REAL}:
        good &= numerator >= 0
    if kind is Kind.FRACTION:
        good &= numerator <= denominator
    if not good.all():
        where = int(np.argmin(good))
        msg = f"structure {where}: {numerator[where]} over {denominator[where]} cannot be part of a {kind} metric"
        raise ValueError(msg)


def cluster_sums(columns: Sequence[FloatArray], clusters: AnyArray, enters: BoolArray) -> FloatArray:
    """Return sums per cluster, shape (n_clusters, n_columns), in an order that depends on the sums alone.

    Structures are sorted by value within their cluster, so that even rounding does not depend on their order.
    """
    labels = np.asarray(clusters)
    if labels.shape != enters.shape:
        msg = f"clusters have shape {labels.shape}, the sums {enters.shape}"
        raise ValueError(msg)
    if labels.dtype.kind == "f" and np.isnan(labels).any():
        msg = "a structure without a cluster (NaN) cannot be resampled"
        raise ValueError(msg)
    table = np.stack([column[enters] for column in columns], axis=1)
    codes = np.unique(labels[enters], return_inverse=True)[1]
    order = np.lexsort((*table.T, codes))
    codes = codes[order]
    starts = np.flatnonzero(np.diff(codes, prepend=-1))
    sums = np.add.reduceat(table[order], starts, axis=0) if starts.size else table
    return sums[np.lexsort(sums.T)]


def studentise(sums: FloatArray, link: Link, bootstrap: Bootstrap) -> tuple[float, FloatArray]:
    """Return the standard error of a ratio, or of a difference of two, and its absolute pivots over resamples.

    The standard error is that of `jackknife_error`; those of the pivots are linearised, which many resamples need.

    Args:
        sums: Shape (n_clusters, 2) or (n_clusters, 4), numerator and denominator of one model or of two.
        link: Scale of the statistic: link(ratio), or link(first ratio) - link(second ratio).
        bootstrap: Seed and number of resamples.

    Returns:
        The standard error on the link's scale (0 if it is rounding) and the values |f* - f| / se*, shape (resamples,).
    """
    rng = np.random.default_rng(bootstrap.seed)
    totals = sums.sum(axis=0)
    ratios = totals[::2] / totals[1::2]
    centred = sums / totals[1::2].mean()
    # Numerators become residuals n - R d: their squares do not cancel where clusters hardly differ.
    centred[:, ::2] -= ratios * centred[:, 1::2]
    value, _ = _delta(_features(centred).sum(axis=0)[None], ratios, link, len(sums))
    error = float(jackknife_error(deletions(sums, link) @ _SIGNS[: ratios.size]))
    if error <= rounding_of(ratios, link):
        return 0.0, np.zeros(0)
    groups = grouped(centred, rng)
    values, errors = _delta(_resample(_features(groups), bootstrap.resamples, rng), ratios, link, len(groups))
    deviations = np.abs(values - value[0])
    with np.errstate(divide="ignore", invalid="ignore"):
        pivots = np.where(deviations == 0.0, 0.0, deviations / errors)
    return error, np.where(np.isnan(pivots), np.inf, pivots)


def deletions(sums: FloatArray, link: Link) -> FloatArray:
    """Return by how much each cluster that is left out changes link(ratio) of every model, to first order in the link.

    Args:
        sums: Shape (n_clusters, 2 * n_models), numerators and denominators in turns.
        link: Scale of the ratios.

    Returns:
        Shape (n_clusters, n_models).
    """
    totals = sums.sum(axis=0)
    ratios = totals[::2] / totals[1::2]
    residuals = sums[:, ::2] - ratios * sums[:, 1::2]
    with np.errstate(divide="ignore", invalid="ignore"):  # a cluster that holds everything, to rounding
        changes: FloatArray = -slopes(ratios, link) * residuals / (totals[1::2] - sums[:, 1::2])
    return changes


def jackknife_error(changes: FloatArray) -> FloatArray:
    """Return the standard error of a statistic from what leaving out each cluster changes, along the first axis.

    It is ``se² = (G-1)/G Σ_g c_g²``, the delete-one jackknife about the estimate. Where clusters differ in size it is
    larger than the linearised one, which is too small because a large cluster pulls the ratio towards itself (Bell and
    McCaffrey, Survey Methodology 28 (2002) 169; MacKinnon, Nielsen and Webb, Journal of Applied Econometrics 38 (2023)
    671); for clusters of equal size both are the same.

    Args:
        changes: Shape (n_clusters, ...).

    Returns:
        Shape (...); infinite where a change is not finite.
    """
    n = len(changes)
    with np.errstate(over="ignore", invalid="ignore"):
        error = np.sqrt((n - 1) / n * np.square(changes).sum(axis=0))
    return np.where(np.isfinite(error), error, np.inf)


def rounding_of(ratios: FloatArray, link: Link) -> float:
    """Return the standard error below which there is nothing but rounding."""
    return ROUNDING * (1.0 if link is Link.LOG else float(np.abs(linked(ratios, link)).max()))


def grouped(sums: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Deal clusters at random into at most MAX_GROUPS groups; sums of groups are as independent as clusters are."""
    if len(sums) <= MAX_GROUPS:
        return sums
    dealt = sums[rng.permutation(len(sums))]
    return np.stack([dealt[start::MAX_GROUPS].sum(axis=0) for start in range(MAX_GROUPS)])


def _features(sums: FloatArray) -> FloatArray:
    """Return the columns x_i and, behind them, their products x_i x_j with i <= j."""
    first, second = np.triu_indices(sums.shape[1])
    return np.concatenate([sums, sums[:, first] * sums[:, second]], axis=1)


def _resample(features: FloatArray, resamples: int, rng: np.random.Generator) -> FloatArray:
    """Sum features over as many rows drawn with replacement, shape (resamples, n_features)."""
    n = len(features)
    rows = max(1, CHUNK // n)
    starts = range(0, resamples, rows)
    return np.concatenate([counts_of_draws(n, min(rows, resamples - start), rng) @ features for start in starts])


def counts_of_draws(n: int, resamples: int, rng: np.random.Generator) -> FloatArray:
    """Return how often each of n things is drawn in n draws with replacement, shape (resamples, n)."""
    draws = rng.integers(0, n, (resamples, n)) + n * np.arange(resamples)[:, None]
    return np.bincount(draws.ravel(), minlength=resamples * n).reshape(resamples, n).astype(np.float64)


def linked(ratios: FloatArray, link: Link) -> FloatArray:
    """Apply the link to ratios."""
    if link is Link.LOG:
        return np.log(ratios)
    return np.sqrt(ratios) if link is Link.ROOT else ratios


def slopes(ratios: FloatArray, link: Link) -> FloatArray:
    """Return the derivative of the link at ratios; 0 at a root of 0, which has no errors in any resample."""
    if link is Link.LOG:
        return 1.0 / ratios
    if link is Link.ROOT:
        return np.divide(0.5, np.sqrt(ratios), out=np.zeros_like(ratios), where=ratios != 0.0)
    return np.ones_like(ratios)


@np.errstate(divide="ignore", invalid="ignore", over="ignore")  # a resample without any error; the pivot becomes inf
def _delta(features: FloatArray, ratios: FloatArray, link: Link, n: int) -> tuple[FloatArray, FloatArray]:
    """Return the statistic and its linearised standard error from feature sums of n clusters or groups.

    Args:
        features: Shape (m, n_features), sums as of `_features` over residuals and denominators.
        ratios: Shape (1,) or (2,), the ratios that the residuals were formed with.
        link: Scale of the statistic.
        n: Number of clusters or groups in each sum.

    Returns:
        Two arrays of shape (m,).
    """
    width = 2 * ratios.size
    shift = features[:, 0:width:2] / features[:, 1:width:2]
    current = ratios + shift
    slope = slopes(current, link) * _SIGNS[: ratios.size] / features[:, 1:width:2]
    weights = np.stack([slope, -slope * shift], axis=2).reshape(-1, width)
    first, second = np.triu_indices(width)
    terms = np.where(first == second, 1.0, 2.0) * weights[:, first] * weights[:, second] * features[:, width:]
    variance = terms.sum(axis=1)
    variance = np.where(variance > ROUNDING * np.abs(terms).sum(axis=1), variance, 0.0)
    value = linked(current, link) @ _SIGNS[: ratios.size]
    return value, np.sqrt(variance * n / (n - 1))


def fraction_limits(sums: FloatArray, level: float) -> tuple[float, float]:
    """Return Clopper-Pearson limits of a share with the effective sample size of clustered data.

    All or nothing gives no spread to estimate it from, and counts one observation a cluster.
    """
    from scipy.special import betaincinv, ndtri, stdtrit

    total, weight = (float(column) for column in sums.sum(axis=0))
    share, n = total / weight, len(sums)
    tail = (1.0 - level) / 2.0
    effective = float(n)
    if 0.0 < share < 1.0:
        residuals = sums[:, 0] - share * sums[:, 1]
        variance = n / (n - 1) * float(residuals @ residuals) / weight**2
        # Clusters without the rarer outcome say little about the spread: they are no degrees of freedom.
        rare = min(np.count_nonzero(sums[:, 0] > 0), np.count_nonzero(sums[:, 0] < sums[:, 1]))
        shrink = float(ndtri(tail) / stdtrit(max(rare - 1, 1), tail)) ** 2
        effective = shrink * share * (1.0 - share) / variance if variance > 0 else math.inf
        # Between one observation a cluster (weighted, after Kish) and one a structure.
        effective = min(max(effective, weight**2 / float(np.square(sums[:, 1]).sum())), weight)
    hits = share * effective
    low = float(betaincinv(hits, effective - hits + 1.0, tail)) if share > 0.0 else 0.0
    high = float(betaincinv(hits + 1.0, effective - hits, 1.0 - tail)) if share < 1.0 else 1.0
    return low, high

"""Intervals of ratios of sums over structures that two crossed factors group, such as adsorbates and materials.

Clusters within one factor leave out that another adsorbate, or another material, would give other numbers. Here both
are resampled: the pigeonhole bootstrap of Owen (Annals of Applied Statistics 1 (2007) 386) draws the levels of each
factor with replacement and weighs a structure by the product of how often its two levels were drawn. Its variance is
that of the two factors, and counts what neither explains up to three times: intervals are a little too wide rather than
too narrow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mlipbench.metrics.resampling import CHUNK, Bootstrap, counts_of_draws
from mlipbench.metrics.statistics import MIN_CLUSTERS, Interval
from mlipbench.metrics.values import Transform

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    from mlipbench.typing import AnyArray, FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Crossed:
    """Sums of structures by the levels of two factors.

    Attributes:
        numerator: Shape (n_first, n_second), sparse.
        denominator: Likewise.
    """

    numerator: csr_array
    denominator: csr_array

    @classmethod
    def of(cls, numerator: FloatArray, denominator: FloatArray, first: AnyArray, second: AnyArray) -> Crossed:
        """Add up structures of equal levels.

        Args:
            numerator: Shape (n_structures,).
            denominator: Shape (n_structures,); structures with 0 are left out.
            first: Shape (n_structures,), level of the first factor (any labels).
            second: Shape (n_structures,), level of the second factor.
        """
        from scipy.sparse import csr_array

        enters = denominator > 0
        rows, columns = (np.unique(labels[enters], return_inverse=True)[1] for labels in (first, second))
        shape = tuple(int(codes.max(initial=-1)) + 1 for codes in (rows, columns))
        tables = (csr_array((values[enters], (rows, columns)), shape=shape) for values in (numerator, denominator))
        return cls(*tables)

    def ratios(self, first: FloatArray, second: FloatArray) -> FloatArray:
        """Return Σ u_i v_j n_ij / Σ u_i v_j d_ij for weights of the levels; NaN where nothing has a weight.

        Args:
            first: Shape (m, n_first), weights u.
            second: Shape (m, n_second), weights v.

        Returns:
            Shape (m,).
        """
        sums = [((table.T @ first.T).T * second).sum(axis=1) for table in (self.numerator, self.denominator)]
        with np.errstate(invalid="ignore", divide="ignore"):
            ratios: FloatArray = sums[0] / sums[1]
        return ratios


def resampled(table: Crossed, bootstrap: Bootstrap) -> FloatArray:
    """Return the ratio of each resample, shape (resamples,); NaN where a resample holds no structure."""
    rng = np.random.default_rng(bootstrap.seed)
    n_first, n_second = table.numerator.shape
    size = max(1, CHUNK // max(n_first, n_second))
    parts = []
    for start in range(0, bootstrap.resamples, size):
        wanted = min(size, bootstrap.resamples - start)
        parts.append(table.ratios(counts_of_draws(n_first, wanted, rng), counts_of_draws(n_second, wanted, rng)))
    return np.concatenate(parts)


def two_way_interval(table: Crossed, transform: Transform, bootstrap: Bootstrap | None = None) -> Interval:
    """Return the percentile interval of a ratio over resamples of both factors.

    Args:
        table: The sums by the levels of the factors.
        transform: Applied to the ratio.
        bootstrap: Seed, resamples and level; None for the defaults.

    Returns:
        The interval, with the number of levels of the smaller factor as `n_clusters`; none below `MIN_CLUSTERS`.
    """
    bootstrap = bootstrap or Bootstrap()
    levels = min(table.numerator.shape)
    if levels < MIN_CLUSTERS:
        return Interval(None, None, levels, f"{levels} levels: fewer than the {MIN_CLUSTERS} an interval needs")
    ratios = resampled(table, bootstrap)
    tail = (1.0 - bootstrap.level) / 2.0
    ends = np.quantile(ratios[~np.isnan(ratios)], [tail, 1.0 - tail])
    low, high = np.sqrt(ends) if transform is Transform.SQRT else ends
    return Interval(float(low), float(high), levels)

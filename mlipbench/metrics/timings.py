"""Statistics of timed calls that were made in rounds.

What disturbs a call disturbs its neighbours, so that rounds are what is resampled, never single calls.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from mlipbench.metrics.blocks import FEWEST, LEVEL, half_width, student
from mlipbench.metrics.definition import Estimate
from mlipbench.metrics.resampling import Bootstrap

if TYPE_CHECKING:
    from mlipbench.typing import FloatArray, IntArray

FEWEST_BEYOND: Final = 10
"""Calls that must lie beyond a percentile for it to be one."""
FEWEST_ROUNDS: Final = 8
"""Rounds below which a percentile has no interval."""
FEWEST_PAIRS: Final = 6
"""Rounds below which a ratio has no interval: with 5 no pair of ends excludes less than 1 in 20."""
ONE_WORKER: Final = "interval over rounds of one worker each; two workers of one model were found 0.7 % apart"
"""What the interval of a ratio leaves out, as `tests/benchmarks/test_cost_measuring.py` found it."""
FEWEST_SIZES: Final = 3
"""Sizes of batches below which no line is drawn through them."""
_RESAMPLING: Final = Bootstrap(seed=17)


@dataclass(frozen=True, slots=True)
class Line:
    """Seconds as overhead plus a slope over atoms.

    Attributes:
        overhead: Seconds of a call without atoms.
        slope: Seconds of one more atom.
    """

    overhead: Estimate
    slope: Estimate


def percentile(seconds: FloatArray, rounds: IntArray, share: float) -> Estimate:
    """Return a percentile of the calls; the interval is that of a bootstrap over rounds.

    Args:
        seconds: Shape (n_calls,).
        rounds: Shape (n_calls,), the round of each call.
        share: Such as 0.5 for the median.

    Returns:
        No value where fewer than `FEWEST_BEYOND` calls can lie beyond it, unless it is the median.
    """
    n = len(seconds)
    if not n:
        return Estimate(None, None, None, 0, "nothing was timed")
    needed = math.ceil(FEWEST_BEYOND / (1.0 - share) - 1e-9)
    if share != 0.5 and n < needed:  # noqa: PLR2004 - the median exists of any number
        return Estimate(None, None, None, n, f"{n} calls do not reach that far, {needed} would")
    value = float(np.quantile(seconds, share))
    names = np.unique(rounds)
    if len(names) < FEWEST_ROUNDS:
        return Estimate(value, None, None, n, f"too few rounds for an interval: {len(names)}")
    low, high = np.quantile(_resampled(seconds, rounds, share), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(value, min(float(low), value), max(float(high), value), n)


def _resampled(seconds: FloatArray, rounds: IntArray, share: float) -> FloatArray:
    """Return a percentile of resamples of whole rounds, shape (n_resamples,)."""
    _, member, counts = np.unique(rounds, return_inverse=True, return_counts=True)
    table = np.full((len(counts), counts.max()), np.inf)
    place = np.arange(len(seconds)) - np.repeat(np.cumsum(counts) - counts, counts)
    order = np.argsort(member, kind="stable")
    table[member[order], place] = seconds[order]
    generator = np.random.Generator(np.random.PCG64(_RESAMPLING.seed))
    draws = generator.integers(0, len(counts), size=(_RESAMPLING.resamples, len(counts)))
    values = np.sort(table[draws].reshape(len(draws), -1), axis=1)
    last = counts[draws].sum(axis=1) - 1  # what follows is padding
    below = np.floor(share * last).astype(np.int64)
    part = share * last - below
    lower, upper = (
        np.take_along_axis(values, at[:, None], axis=1)[:, 0] for at in (below, np.minimum(below + 1, last))
    )
    found: FloatArray = lower + part * (upper - lower)
    return found


def paired_ratio(seconds: FloatArray, reference: FloatArray, rounds: IntArray) -> Estimate:
    """Return how many times longer calls took than those of a reference with the same structures in the same rounds.

    A round's number is the median of the logarithms of its calls' ratios. The estimate is the exponential of the Hodges
    and Lehmann estimate over rounds, the median of the means of all pairs, and its interval the one that belongs to
    Wilcoxon's signed rank test (Hollander and Wolfe, Nonparametric Statistical Methods, section 3.3): both need no more
    than that a disturbance is as likely to meet one model as the other. What sets two workers of one model apart, such
    as where their memory lies, is the same in all rounds, and no part of the interval.

    Args:
        seconds: Shape (n_calls,).
        reference: Shape (n_calls,), NaN where the reference took no part.
        rounds: Shape (n_calls,).
    """
    both = np.isfinite(reference)
    if not both.any():
        return Estimate(None, None, None, 0, "the reference model was not measured in the same rounds")
    middles = medians_of_rounds(np.log(seconds[both] / reference[both]), rounds[both])
    n = len(middles)
    pairs = np.sort((middles[:, None] + middles[None, :])[np.triu_indices(n)] / 2)
    value = math.exp(float(np.median(pairs)))
    if n < FEWEST_PAIRS:
        return Estimate(value, None, None, n, f"too few rounds for an interval: {n}")
    outside = _signed_rank_quantile(n)
    return Estimate(value, math.exp(pairs[outside]), math.exp(pairs[-1 - outside]), n, ONE_WORKER)


def medians_of_rounds(values: FloatArray, rounds: IntArray) -> FloatArray:
    """Return the median of the calls of each round, shape (n_rounds,).

    Args:
        values: Shape (n_calls,).
        rounds: Shape (n_calls,).
    """
    names, inverse = np.unique(rounds, return_inverse=True)
    return np.asarray([np.median(values[inverse == one]) for one in range(len(names))])


def geometric_mean(rates: FloatArray) -> Estimate:
    """Return the geometric mean with Student's interval of the logarithms.

    Args:
        rates: Shape (n_calls,), one call a round.
    """
    logs = np.log(rates)
    value, n = math.exp(float(np.mean(logs))), len(rates)
    if n < FEWEST:
        return Estimate(value, None, None, n, f"too few rounds for an interval: {n}")
    half = half_width(logs)
    return Estimate(value, value * math.exp(-half), value * math.exp(half), n)


def line(atoms: IntArray, seconds: FloatArray) -> Line:
    """Fit seconds = overhead + slope * atoms by least squares of relative errors; intervals are Student's.

    Args:
        atoms: Shape (n_calls,).
        seconds: Shape (n_calls,).
    """
    if len(np.unique(atoms)) < FEWEST_SIZES:
        none = Estimate(None, None, None, len(atoms), "too few sizes of batches for a line through them")
        return Line(none, none)
    weights = 1.0 / seconds
    design = np.stack([weights, atoms * weights], axis=1)
    solution, _, _, _ = np.linalg.lstsq(design, np.ones(len(seconds)), rcond=None)
    left = np.ones(len(seconds)) - design @ solution
    freedom = len(seconds) - 2
    covariance = np.linalg.inv(design.T @ design) * float(left @ left) / freedom
    half = student(freedom) * np.sqrt(np.diag(covariance))
    overhead, slope = (
        Estimate(float(value), float(value - width), float(value + width), len(seconds))
        for value, width in zip(solution, half, strict=True)
    )
    return Line(overhead, slope)


def _signed_rank_quantile(n: int) -> int:
    """Return how many means of pairs lie outside the interval at each end.

    The largest c with P(W <= c) <= 2.5 %, W being Wilcoxon's signed rank statistic of n differences without ties.
    """
    ways = np.ones(1)
    for rank in range(1, n + 1):  # each rank is among the positive ones or not
        ways = np.concatenate([ways, np.zeros(rank)]) + np.concatenate([np.zeros(rank), ways])
    tail = np.cumsum(ways) / 2.0**n
    return int(np.searchsorted(tail, (1 - LEVEL) / 2, side="right")) - 1

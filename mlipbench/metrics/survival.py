"""How long replicas of a simulation stay stable, when some are cut off before they fail.

A replica ends by failing, or is censored: it reached the end of the run, or a crash or time limit that says nothing of
physics ended it before. Times are in ps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from mlipbench.metrics.blocks import FEWEST, LEVEL, student, two_sided

if TYPE_CHECKING:
    from mlipbench.typing import BoolArray, FloatArray, IntArray

_ROUNDING: Final = 1e-9  # a time is a number of frames times an interval


@dataclass(frozen=True, slots=True, eq=False)
class Endings:
    """How the replicas of one model ended.

    Attributes:
        times: Shape (n_replicas,), ps, until the end.
        failed: Shape (n_replicas,), True where the replica failed, False where it was censored.

    Raises:
        ValueError: There is no replica, shapes do not fit, or a time is negative or not finite.
    """

    times: FloatArray
    failed: BoolArray

    def __post_init__(self) -> None:
        """Refuse what is no set of endings."""
        if self.times.ndim != 1 or self.times.shape != self.failed.shape or not self.times.size:
            raise ValueError(f"times of shape {self.times.shape} with ends of shape {self.failed.shape}")
        wrong = np.flatnonzero(~(np.isfinite(self.times) & (self.times >= 0)))
        if wrong.size:
            raise ValueError(f"replica {wrong[0]} ended after {self.times[wrong[0]]} ps")

    def within(self, horizon: float) -> Endings:
        """Return the endings as seen by an observer who leaves at the horizon.

        Raises:
            ValueError: The horizon is not positive and finite.
        """
        if not 0 < horizon < np.inf:
            raise ValueError(f"the horizon must be positive, not {horizon} ps")
        reached = self.times >= horizon * (1.0 - _ROUNDING)
        return Endings(np.where(reached, horizon, self.times), self.failed & ~reached)

    def worst_case(self, horizon: float) -> Endings:
        """Return the endings with every replica that was censored before the horizon counted as failed then.

        Raises:
            ValueError: The horizon is not positive and finite.
        """
        seen = self.within(horizon)
        return Endings(seen.times, seen.times < horizon)


@dataclass(frozen=True, slots=True, eq=False)
class SurvivalCurve:
    """A Kaplan-Meier estimate: a staircase that starts at 1 and steps down at each time of failure.

    Attributes:
        times: Shape (n_steps,), ps, distinct times of failure in order.
        survival: Shape (n_steps,), estimated share that survives each of them.
        at_risk: Shape (n_steps,), replicas that had neither failed nor been censored before.
        failures: Shape (n_steps,), replicas that failed then.
    """

    times: FloatArray
    survival: FloatArray
    at_risk: IntArray
    failures: IntArray


@dataclass(frozen=True, slots=True, eq=False)
class SurvivalBand:
    """A Kaplan-Meier estimate with 95 % limits at each time by itself; every value holds until the next time.

    Attributes:
        times: Shape (n,), ps, 0 and the distinct times at which replicas ended.
        survival: Shape (n,), estimated share that survives each of them.
        low: Shape (n,), lower limit of that.
        high: Shape (n,), upper limit.
    """

    times: FloatArray
    survival: FloatArray
    low: FloatArray
    high: FloatArray


@dataclass(frozen=True, slots=True)
class RestrictedTime:
    """A restricted mean survival time, or a difference of two.

    Attributes:
        value: ps, None where it cannot be told.
        low: ps, lower end of the 95 % interval, None where there is none.
        high: ps, upper end.
        n: Replicas, or pairs of them, that entered.
        n_failed: How many of them failed before the horizon (of pairs: in either member).
        n_censored: Replicas censored before the horizon; of pairs, those left out for it.
        reason: Why something is missing, or what kind of interval it is where the usual one is not meaningful.
        p: Of a difference with an interval, the two-sided p-value of no difference: 1 minus the level at which the
            interval begins to hold 0.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    n_failed: int
    n_censored: int
    reason: str | None = None
    p: float | None = None


def kaplan_meier(endings: Endings) -> SurvivalCurve:
    """Estimate the share of replicas that survives each time.

    ``S(t) = Π_{t_i <= t} (1 - d_i / n_i)`` with d_i failures among n_i replicas at risk at t_i; whoever is censored at
    a time of failure was at risk then (Kaplan and Meier, J. Am. Stat. Assoc. 53 (1958) 457).

    Args:
        endings: How the replicas ended.
    """
    times, failures = np.unique(endings.times[endings.failed], return_counts=True)
    at_risk = np.array([np.count_nonzero(endings.times >= time) for time in times], dtype=np.int64)
    survival: FloatArray = np.cumprod(1.0 - failures / at_risk, dtype=np.float64)
    return SurvivalCurve(times, survival, at_risk, failures.astype(np.int64))


def survival_band(endings: Endings) -> SurvivalBand:
    """Return the share of replicas that survives each time with its 95 % limits.

    Limits are Clopper and Pearson's for ``S m`` survivors among m. Where nobody has been censored m is the number of
    replicas, and the limits are exact; else it is the size of a sample without censoring that would have as many
    replicas left, ``m = n/S`` with n of them (Peto et al., British Journal of Cancer 35 (1977) 1). Where none is left,
    m is that of the time before. Measured coverage over 1,500 trials of n = 3, 5, 10 and 20 replicas with exponential
    times and uniform censoring, or none: 0.96 to 1.00 at each of four times.

    Args:
        endings: How the replicas ended.
    """
    from scipy.stats import beta

    curve = kaplan_meier(endings)
    times = np.unique(np.append(endings.times, 0.0))
    survival = np.append(1.0, curve.survival)[np.searchsorted(curve.times, times, side="right")]
    sizes = np.full(times.size, float(endings.times.size))
    for place, time in enumerate(times):
        left = np.count_nonzero(endings.times > time)
        sizes[place] = left / survival[place] if left else sizes[max(place - 1, 0)]
    alive, tail = survival * sizes, (1.0 - LEVEL) / 2.0
    gone = sizes - alive
    low = np.where(alive > 0, beta.ppf(tail, np.maximum(alive, _ROUNDING), gone + 1.0), 0.0)
    high = np.where(gone > _ROUNDING, beta.ppf(1.0 - tail, alive + 1.0, np.maximum(gone, _ROUNDING)), 1.0)
    return SurvivalBand(times, survival, low, high)


def restricted_mean(endings: Endings, horizon: float) -> RestrictedTime:
    """Return the mean time of stability within a horizon, with a 95 % interval.

    It is the area below the Kaplan-Meier curve, ``∫_0^τ S(t) dt``, with Greenwood's variance
    ``Σ_i (∫_{t_i}^τ S(t) dt)² d_i / (n_i (n_i - d_i))`` (Klein and Moeschberger, Survival Analysis, 2nd ed. 2003,
    section 4.5) times n/(n - 1), which makes it the usual variance of a mean where nobody is censored before the
    horizon. The interval is Student's with as many degrees of freedom as replicas failed, n - 1 at most, because
    survivors say little about the spread; it is cut to 0 ... τ.

    Where this variance is 0, no interval of width 0 is given. Then the n replicas that were followed to their end have
    all the same restricted time x: τ where none failed, else their common time of failure. A share p of all replicas
    does as they did, with the exact binomial (Clopper and Pearson, Biometrika 26 (1934) 404) lower limit
    ``p = 0.025^(1/n)``, and the others have any time in 0 ... τ: ``p x ... p x + (1 - p) τ``. With no failure, this is
    ``p τ ... τ``.

    Measured coverage over 4,000 trials of n = 3, 5, 10 and 20 replicas with Weibull times (shapes 0.5, 1 and 3; scales
    0.2, 0.7, 2, 5 and 20 times τ, all followed to τ): 0.95 and more for scales of 2 τ and more but for one, 0.945; 0.88
    to 0.96 at 0.7 τ; at 0.2 τ, 0.95 for shape 3, 0.88 to 0.91 for 1, 0.79 to 0.92 for 0.5, where the truth is above.

    Args:
        endings: How the replicas ended.
        horizon: τ, ps.

    Returns:
        The mean; None, with the reason, where all who had not failed were censored before the horizon.

    Raises:
        ValueError: The horizon is not positive and finite.
    """
    seen = endings.within(horizon)
    n, n_failed = seen.times.size, int(seen.failed.sum())
    followed = seen.failed | (seen.times >= horizon)
    n_censored = n - int(followed.sum())
    counts = n, n_failed, n_censored
    curve = kaplan_meier(seen)
    left = float(curve.survival[-1]) if n_failed else 1.0
    last = float(seen.times.max())
    if left > 0 and last < horizon:
        why = f"none of those that had not failed was followed beyond {last:g} of {horizon:g} ps"
        return RestrictedTime(None, None, None, *counts, why)
    edges = np.concatenate([[0.0], curve.times, [horizon]])
    areas = np.diff(edges) * np.concatenate([[1.0], curve.survival])
    value = float(areas.sum())
    beyond = value - np.cumsum(areas)[:-1]  # the area behind each step
    alive = curve.at_risk - curve.failures
    steps = alive > 0  # where nobody is left, nothing lies behind
    variance = float(np.sum((beyond**2 * curve.failures)[steps] / (curve.at_risk * alive)[steps]))
    if variance == 0.0:
        low, high = _of_equal_ones(value, int(followed.sum()), (0.0, horizon))
        what = f"{n_failed} of {n} replicas failed at the same time" if n_failed else f"none of {n} replicas failed"
        return RestrictedTime(value, low, high, *counts, f"{what}: exact binomial limits")
    half = student(min(n_failed, n - 1)) * np.sqrt(variance * n / (n - 1))
    return RestrictedTime(value, max(value - half, 0.0), min(value + half, horizon), *counts)


def paired_difference(first: Endings, second: Endings, horizon: float) -> RestrictedTime:
    """Return the mean difference between two models of the time of stability within a horizon, over the same replicas.

    Replicas belong together that started from the same frame with the same seed. Pairs with a member that was censored
    before the horizon are left out; `Endings.worst_case` keeps them. The interval is Student's over the differences,
    with as many degrees of freedom as pairs differ, n - 1 at most; where all differences are equal, limits as of
    `restricted_mean` with other pairs differing by anything in -τ ... τ.

    Args:
        first: How the replicas of one model ended.
        second: How those of the other ended, in the same order.
        horizon: τ, ps.

    Returns:
        First minus second; without interval, with the reason, below `FEWEST` pairs.

    Raises:
        ValueError: The numbers of replicas differ, or the horizon is not positive and finite.
    """
    if first.times.shape != second.times.shape:
        raise ValueError(f"{first.times.size} replicas cannot be paired with {second.times.size}")
    one, other = first.within(horizon), second.within(horizon)
    followed = (one.failed | (one.times >= horizon)) & (other.failed | (other.times >= horizon))
    differences = (one.times - other.times)[followed]
    n = differences.size
    counts = n, int((one.failed | other.failed)[followed].sum()), int((~followed).sum())
    if not n:
        return RestrictedTime(None, None, None, *counts, "in every pair a replica was censored before the horizon")
    value = float(differences.mean())
    if n < FEWEST:
        return RestrictedTime(value, None, None, *counts, f"{n} pairs of replicas, an interval needs {FEWEST}")
    if np.ptp(differences) <= _ROUNDING * horizon:
        low, high = _of_equal_ones(value, n, (-horizon, horizon))
        p = min(
            2.0 * (horizon / (horizon + abs(value))) ** n, 1.0
        )  # where the share times |value| makes up for the rest
        return RestrictedTime(value, low, high, *counts, f"all {n} pairs differ alike: exact binomial limits", p)
    freedom, error = min(int(np.count_nonzero(differences)), n - 1), float(differences.std(ddof=1) / np.sqrt(n))
    half = student(freedom) * error
    p = two_sided(value / error, freedom)
    return RestrictedTime(value, max(value - half, -horizon), min(value + half, horizon), *counts, p=p)


def _of_equal_ones(value: float, n: int, limits: tuple[float, float]) -> tuple[float, float]:
    """Return limits of a mean of which n values were seen, all equal."""
    share = ((1.0 - LEVEL) / 2.0) ** (1.0 / n)
    return share * value + (1.0 - share) * limits[0], share * value + (1.0 - share) * limits[1]

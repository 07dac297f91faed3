"""How one metric changes from one model to another, over the structures, replicas or rounds that both have.

A is what is compared with and B what is compared: a difference is B - A, a relative change (B - A) / A.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import numpy as np

from mlipbench.metrics.blocks import FEWEST, half_width, student_quantile, two_sided
from mlipbench.metrics.contrast import Estimate, gap
from mlipbench.metrics.statistics import POWER, paired_difference, ratio_of_sums
from mlipbench.metrics.survival import Endings, restricted_mean
from mlipbench.metrics.survival import paired_difference as time_difference
from mlipbench.metrics.values import Kind, Transform

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlipbench.metrics.definition import MetricDefinition
    from mlipbench.metrics.dynamics import ReplicaScores
    from mlipbench.metrics.resampling import Bootstrap
    from mlipbench.metrics.statistics import Sums
    from mlipbench.metrics.values import Scale
    from mlipbench.typing import AnyArray, BoolArray, FloatArray

_NORMAL: Final = 1.959963984540054
"""Standard errors that a 95 % interval of a normal estimate reaches to either side."""
_POWERED: Final = 0.8416212335729143
"""Standard errors beyond that at which a normal estimate is found with a probability of `POWER`."""


@dataclass(frozen=True, slots=True)
class Change:
    """One metric of A and of B over what both have, and the difference.

    Attributes:
        a: The metric of A, None where nothing is common.
        b: The metric of B.
        difference: B - A in the metric's unit, with its 95 % interval where it has one; None where it cannot be formed.
        relative: (B - A) / A, likewise; None where the metric has no zero to be relative to, or A is 0.
        p: Two-sided p-value of no difference, None where it cannot be judged.
        n: Structures, replicas or rounds that enter.
        n_clusters: Independent clusters among them.
        exact: Whether the numbers are counted, so that any difference is one.
        reason: Why something is missing, or what must be known of it.
        detectable: Smallest difference in the metric's unit that a test of it alone at 5 % finds with a probability of
            80 %; None where that is not known.
    """

    a: float | None
    b: float | None
    difference: Estimate | None
    relative: Estimate | None = None
    p: float | None = None
    n: int = 0
    n_clusters: int = 0
    exact: bool = False
    reason: str | None = None
    detectable: float | None = None


def structures_change(a: Sums, b: Sums, clusters: AnyArray, scale: Scale, bootstrap: Bootstrap | None = None) -> Change:
    """Compare a ratio of sums on the structures that both have; `paired_difference` says how.

    Errors are tested by their ratio, whose interval is that of the relative change. The interval of the difference is
    its own, and may hold 0 where the test does not.

    Args:
        a: Numerator and denominator of A, two arrays of shape (n_structures,); a denominator of 0 leaves a structure
            out.
        b: The same of B.
        clusters: Shape (n_structures,), which structures belong together.
        scale: Range of the metric and its transform.
        bootstrap: Seed, resamples and level; None for the defaults.

    Raises:
        ValueError: If shapes differ, or a number is one the metric cannot have.
    """
    found = paired_difference(b, a, clusters, scale, bootstrap)
    if found.difference is None:
        return _nothing(found.reason)
    common = (a[1] > 0) & (b[1] > 0)
    first, second = (ratio_of_sums(num[common], den[common], scale.transform) for num, den in (a, b))
    difference, relative = Estimate(found.difference, found.low, found.high), None
    if scale.kind is Kind.POSITIVE:
        # The interval of the ratio B / A stands at the value of A, and dividing by that takes it back.
        relative = _over(difference, first)
        plain = paired_difference(b, a, clusters, scale, bootstrap, as_ratio=False)
        difference = Estimate(found.difference, plain.low, plain.high)
    return Change(
        first,
        second,
        difference,
        relative,
        found.p_value,
        found.n,
        found.n_clusters,
        reason=found.reason,
        detectable=found.detectable,
    )


def _nothing(reason: str | None) -> Change:
    return Change(None, None, None, reason=reason)


def _over(difference: Estimate, value: float) -> Estimate | None:
    """Return a difference as a share of a value; None of 0 and less."""
    if value <= 0.0:
        return None
    return Estimate(difference.value / value, *(None if end is None else end / value for end in difference[1:]))


def replicas_change(definition: MetricDefinition[ReplicaScores], a: ReplicaScores, b: ReplicaScores) -> Change:
    """Compare a metric of simulations over replicas of the same seeds.

    Times of stability are compared as `mlipbench.metrics.survival.paired_difference` does, which leaves out pairs with
    a censored member; survival likewise, as the time it is of a horizon of 1. The others are means over replicas:
    Student's interval of the mean difference.

    Args:
        definition: A metric that does not depend on the machine.
        a: Scores of A.
        b: Scores of B, of the same replicas in the same order.
    """
    if definition.name in _LASTING:
        return _lasting(a, b, _LASTING[definition.name])
    columns = [np.asarray(definition.numerator(scores), dtype=np.float64) for scores in (a, b)]
    common = np.isfinite(columns[0]) & np.isfinite(columns[1])
    n = int(common.sum())
    if not n:
        return _nothing("no replica that both have a value for")
    first, second = (float(np.mean(column[common])) for column in columns)
    differences = (columns[1] - columns[0])[common]
    relative = _over(Estimate(float(np.mean(differences)), None, None), first)
    return replace(_student(differences), a=first, b=second, relative=relative)


def _student(differences: FloatArray) -> Change:
    """Return the mean of differences with Student's interval and test."""
    n, value = len(differences), float(np.mean(differences))
    bare = Change(None, None, Estimate(value, None, None), n=n, n_clusters=n)
    if n < FEWEST:
        return replace(bare, reason=f"{n} pairs of replicas, an interval needs {FEWEST}")
    if np.ptp(differences) == 0.0:
        p = 2.0 ** (1 - n) if value else 1.0  # that of n equal signs
        estimate = Estimate(value, value, value)
        return replace(bare, difference=estimate, p=p, reason=f"no width: all {n} pairs differ alike")
    half = half_width(differences)
    error = float(np.std(differences, ddof=1)) / math.sqrt(n)
    return replace(
        bare,
        difference=Estimate(value, value - half, value + half),
        p=two_sided(value / error, n - 1),
        detectable=half + error * student_quantile(n - 1, POWER),
    )


@dataclass(frozen=True, slots=True)
class _Lasting:
    """How a metric reads how long replicas lasted.

    Attributes:
        worst: Whether censored replicas count as collapsed.
        share: Whether only reaching the end counts.
    """

    worst: bool = False
    share: bool = False


_LASTING: Final[Mapping[str, _Lasting]] = MappingProxyType(
    {
        "stability": _Lasting(),
        "stability_worst_case": _Lasting(worst=True),
        "survived": _Lasting(worst=True, share=True),
    }
)


def _lasting(a: ReplicaScores, b: ReplicaScores, how: _Lasting) -> Change:
    known = np.isfinite(a.stable) & np.isfinite(b.stable)
    if not known.any():
        return _nothing("no replica that both simulated")
    horizon = float(a.horizon[known].max())
    first, second = (_endings(scores, known, horizon, how) for scores in (a, b))
    within = 1.0 if how.share else horizon
    found = time_difference(second, first, within)
    left_out = f"{found.n_censored} pairs with a censored replica are left out" if found.n_censored else None
    said = "; ".join(filter(None, (found.reason, left_out))) or None
    means = [restricted_mean(endings, within).value for endings in (first, second)]
    difference = None if found.value is None else Estimate(found.value, found.low, found.high)
    return Change(means[0], means[1], difference, p=found.p, n=found.n, n_clusters=found.n, reason=said)


def _endings(scores: ReplicaScores, known: BoolArray, horizon: float, how: _Lasting) -> Endings:
    endings = Endings(scores.stable[known], scores.failed[known] > 0)
    seen = endings.worst_case(horizon) if how.worst else endings.within(horizon)
    return Endings((~seen.failed).astype(np.float64), seen.failed) if how.share else seen


def gap_change(base: Change, others: Sequence[Change]) -> Change:
    """Compare the gap between splits: the mean over some splits minus another one.

    The change of the gap is the gap of the changes; its interval is recovered from theirs, splits being independent
    (`mlipbench.metrics.contrast.gap`).

    Args:
        base: The change on the split that is compared with.
        others: The changes on the other splits, at least one.
    """
    parts = (base, *others)
    differences = [part.difference for part in parts if part.difference is not None]
    if len(differences) < len(parts):
        return _nothing("nothing is common on one of its splits")
    found = gap(differences[0], differences[1:])
    return Change(
        _gap_of([part.a for part in parts]),
        _gap_of([part.b for part in parts]),
        found,
        p=p_of_interval(found),
        n=sum(part.n for part in parts),
        n_clusters=min(part.n_clusters for part in parts),
        reason=next((part.reason for part in parts if part.p is None), None),
        detectable=_detectable(found),
    )


def _gap_of(values: Sequence[float | None]) -> float | None:
    known = [Estimate(value, None, None) for value in values if value is not None]
    return gap(known[0], known[1:]).value if len(known) == len(values) else None


def counted_change(a: float, b: float) -> Change:
    """Compare numbers that are counted: their difference is exact.

    Args:
        a: That of A.
        b: That of B.
    """
    difference = Estimate(b - a, None, None)
    return Change(a, b, difference, _over(difference, a), n=1, exact=True)


def single_change(a: float, b: float, reason: str) -> Change:
    """Compare numbers whose difference has no interval.

    Args:
        a: That of A.
        b: That of B.
        reason: Why there is none.
    """
    difference = Estimate(b - a, None, None)
    return Change(a, b, difference, _over(difference, a), reason=reason)


def independent_ratio(a: Estimate, b: Estimate, n: int) -> Change:
    """Compare positive numbers that were measured independently, by their ratio.

    The interval of the difference of logarithms is recovered from the intervals of both
    (`mlipbench.metrics.contrast.gap`); the difference itself has none.

    Args:
        a: That of A.
        b: That of B.
        n: Rounds of the smaller measurement.
    """
    first, second = (Estimate(math.log(one.value), _log(one.low), _log(one.high)) for one in (a, b))
    found = gap(first, [second])
    relative = Estimate(math.expm1(found.value), *(None if end is None else math.expm1(end) for end in found[1:]))
    p, reach = p_of_interval(found), _detectable(found)
    said = "one of the two has no interval" if p is None else "measured independently"
    difference = Estimate(b.value - a.value, None, None)
    detectable = None if reach is None else a.value * math.expm1(reach)
    return Change(a.value, b.value, difference, relative, p, n, reason=said, detectable=detectable)


def _log(value: float | None) -> float | None:
    return math.log(value) if value is not None and value > 0 else None


def p_of_interval(found: Estimate) -> float | None:
    """Return the two-sided p-value of no difference that goes with a 95 % interval of an estimate near normal.

    The standard error is read off the arm of the interval that points to 0, so that the p-value is below 5 % where the
    interval excludes 0.

    Args:
        found: The estimate; one without an interval has no p-value.
    """
    if found.low is None or found.high is None:
        return None
    if found.value == 0.0:
        return 1.0
    arm = found.value - found.low if found.value > 0 else found.high - found.value
    return 0.0 if arm <= 0.0 else math.erfc(_NORMAL * abs(found.value) / arm / math.sqrt(2.0))


def _detectable(found: Estimate) -> float | None:
    """Return the smallest difference that is found with a probability of `POWER`, by an interval as `p_of_interval`'s.

    The standard error is read off the longer arm.
    """
    if found.low is None or found.high is None:
        return None
    return max(found.value - found.low, found.high - found.value) * (1.0 + _POWERED / _NORMAL)


def per_structure(sums: Sums, scale: Scale) -> FloatArray:
    """Return a metric of each structure by itself, NaN where it has none, shape (n_structures,).

    Args:
        sums: Numerator and denominator, two arrays of shape (n_structures,).
        scale: Range of the metric and its transform.
    """
    numerator, denominator = sums
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(denominator > 0, numerator / denominator, np.nan)
    return np.sqrt(ratio) if scale.transform is Transform.SQRT else ratio

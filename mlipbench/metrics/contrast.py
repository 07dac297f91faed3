"""Differences of one metric between splits that have no cluster in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence


class Estimate(NamedTuple):
    """A number with its interval.

    Attributes:
        value: The number.
        low: Lower end of its interval, None where it has none.
        high: Upper end of its interval, None where it has none.
    """

    value: float
    low: float | None
    high: float | None


def gap(base: Estimate, others: Sequence[Estimate]) -> Estimate:
    """Return the mean of a metric over some splits minus the metric on another one, and its interval.

    The interval of the sum ``Σ c_i θ_i`` of independent numbers is recovered from the intervals of these, so that it
    keeps their shape: its lower end is ``Σ c_i θ_i - sqrt(Σ (c_i θ_i - min(c_i l_i, c_i u_i))²)``, its upper end
    likewise with the largest (MOVER: Zou and Donner, Statistics in Medicine 27 (2008) 1693).

    Args:
        base: The metric on the split that is compared with.
        others: The metric on the other splits, at least one; they count alike, whatever their sizes.

    Returns:
        The gap; without an interval where one of the numbers has none.
    """
    parts = (base, *others)
    weights = np.array([-1.0, *[1.0 / len(others)] * len(others)])
    terms = weights * [part.value for part in parts]
    value = float(terms.sum())
    if any(part.low is None or part.high is None for part in parts):
        return Estimate(value, None, None)
    ends = weights[:, None] * np.array([(part.low, part.high) for part in parts], dtype=np.float64)
    below, above = (float(np.linalg.norm(terms - end)) for end in (ends.min(axis=1), ends.max(axis=1)))
    return Estimate(value, value - below, value + above)

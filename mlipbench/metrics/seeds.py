"""How much a number depends on the seed of the training."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import numpy as np

from mlipbench.metrics.blocks import FEWEST, half_width
from mlipbench.metrics.contrast import Estimate
from mlipbench.metrics.values import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_RANGES: Final[Mapping[Kind, tuple[float, float]]] = MappingProxyType(
    {Kind.POSITIVE: (0.0, np.inf), Kind.BOUNDED: (-1.0, 1.0), Kind.FRACTION: (0.0, 1.0)}
)


def over_seeds(values: Sequence[float], kind: Kind) -> Estimate | None:
    """Return the mean of a metric over trainings with different seeds, with Student's 95 % interval.

    All were evaluated on the same structures, so that the interval is of what other seeds would give on these: it holds
    the variance between seeds alone, and leaves out that other structures would give another number, as the interval of
    one training over structures leaves out that another seed would.

    Args:
        values: The metric of each training.
        kind: Range of the metric, to which the interval is cut.

    Returns:
        The mean; None below `FEWEST` seeds.
    """
    if len(values) < FEWEST:
        return None
    mean, half = float(np.mean(values)), half_width(np.asarray(values, dtype=np.float64))
    lowest, highest = _RANGES.get(kind, (-np.inf, np.inf))
    return Estimate(mean, max(mean - half, lowest), min(mean + half, highest))

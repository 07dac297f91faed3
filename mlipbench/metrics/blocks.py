"""Intervals of averages over a trajectory, whose frames resemble each other, from blocks that do not.

The means of blocks much longer than the memory of a series are independent (Flyvbjerg and Petersen, J. Chem. Phys. 91
(1989) 461), so that Student's interval holds for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from mlipbench.typing import FloatArray

LEVEL: Final = 0.95
"""Level of all intervals."""
FEWEST: Final = 3
"""Blocks, or pairs, below which there is no interval."""
BLOCKS: Final = 10
"""Blocks that a series is cut into."""
SHORTEST: Final = 10
"""Frames below which a block is none."""


@dataclass(frozen=True, slots=True)
class BlockEstimate:
    """A quantity of a trajectory with its interval.

    Attributes:
        value: The quantity; None where it cannot be computed.
        low: Lower end of the 95 % interval, None where there is none.
        high: Upper end.
        n_blocks: Blocks that the interval rests on.
        reason: Why something is missing.
    """

    value: float | None
    low: float | None
    high: float | None
    n_blocks: int
    reason: str | None = None


def student(freedom: int) -> float:
    """Return how many standard errors an interval reaches to either side, with some degrees of freedom."""
    return student_quantile(freedom, (1.0 + LEVEL) / 2.0)


def student_quantile(freedom: int, probability: float) -> float:
    """Return a quantile of Student's distribution."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, probability))


def two_sided(ratio: float, freedom: int) -> float:
    """Return the p-value of Student's two-sided test.

    Args:
        ratio: A number over its standard error.
        freedom: Degrees of freedom.
    """
    from scipy.special import stdtr

    return float(2.0 * stdtr(freedom, -abs(ratio)))


def cut(series: FloatArray) -> FloatArray | None:
    """Cut a series into `BLOCKS` blocks, without the frames at its start that fit into none.

    Args:
        series: Shape (n_frames,).

    Returns:
        Shape (BLOCKS, length); None where blocks would be shorter than `SHORTEST`.
    """
    length = len(series) // BLOCKS
    return series[len(series) - BLOCKS * length :].reshape(BLOCKS, length) if length >= SHORTEST else None


def too_short(n_frames: int) -> str:
    """Return why a series cannot be cut."""
    return f"{n_frames} frames, {BLOCKS} blocks of {SHORTEST} need {BLOCKS * SHORTEST}"


def series_mean(series: FloatArray) -> BlockEstimate:
    """Return the mean of a series with its interval.

    Args:
        series: Shape (n_frames,).

    Raises:
        ValueError: There is no frame.
    """
    if not len(series):
        raise ValueError("a mean over no frames")
    value, blocks = float(series.mean()), cut(series)
    if blocks is None:
        return BlockEstimate(value, None, None, 0, too_short(len(series)))
    half = half_width(blocks.mean(axis=1))
    return BlockEstimate(value, value - half, value + half, BLOCKS)


def half_width(values: FloatArray) -> float:
    """Return how far the interval of the mean of independent values reaches to either side.

    Args:
        values: Shape (n,), at least two.
    """
    n = len(values)
    return student(n - 1) * float(np.std(values, ddof=1)) / float(np.sqrt(n))

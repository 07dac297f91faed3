"""How predicted force components lie against those of the reference, as counts that add up over parts of a split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

import numpy as np

if TYPE_CHECKING:
    from mlipbench.typing import FloatArray, IntArray

LIMIT: Final = 50.0
"""eV/Å, end of the range on either side; OC20 leaves structures with larger forces out of its training sets."""
LINEAR: Final = 0.05
"""eV/Å, size below which bins are of about equal width, and above which they grow with the force."""
BINS: Final = 81
"""Bins from -`LIMIT` to `LIMIT`; an odd number, so that 0 is the middle of one."""


@dataclass(frozen=True, slots=True, eq=False)
class ForceDensity:
    """How many force components have which reference and which prediction.

    Bins are of equal width in ``sign(F) ln(1 + |F|/LINEAR)``, a symmetric logarithm: 9 meV/Å wide at 0, and 19 % of the
    force where that is large.

    Attributes:
        counts: Shape (BINS, BINS), components by the bins of reference and prediction.
        reference_beyond: Components whose reference is beyond the range.
        predicted_beyond: Components whose prediction is beyond the range, and the reference is not.
    """

    counts: IntArray
    reference_beyond: int = 0
    predicted_beyond: int = 0

    @classmethod
    def of(cls, reference: FloatArray, predicted: FloatArray) -> Self:
        """Count components.

        Args:
            reference: Forces of any shape, eV/Å.
            predicted: Likewise, of the same shape.

        Raises:
            ValueError: The shapes differ.
        """
        if reference.shape != predicted.shape:
            raise ValueError(f"forces of shape {predicted.shape} against {reference.shape}")
        first, second = (np.asarray(forces, dtype=np.float64).ravel() for forces in (reference, predicted))
        known, near = np.abs(first) <= LIMIT, np.abs(second) <= LIMIT
        within = known & near
        cells = _bins(first[within]) * BINS + _bins(second[within])
        counts = np.bincount(cells, minlength=BINS * BINS).reshape(BINS, BINS)
        return cls(counts, int(np.sum(~known)), int(np.sum(known & ~near)))

    def __add__(self, other: ForceDensity) -> ForceDensity:
        """Return the counts of both."""
        return ForceDensity(
            self.counts + other.counts,
            self.reference_beyond + other.reference_beyond,
            self.predicted_beyond + other.predicted_beyond,
        )


def _bins(forces: FloatArray) -> IntArray:
    """Return the bins of forces within the range; the limit itself is in the last one."""
    reach = np.log1p(LIMIT / LINEAR)
    scaled = np.copysign(np.log1p(np.abs(forces) / LINEAR), forces) / reach
    found: IntArray = np.minimum(((scaled + 1.0) / 2.0 * BINS).astype(np.int64), BINS - 1)
    return found

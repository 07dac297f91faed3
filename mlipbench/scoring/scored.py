"""What the predictions of some structures came to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlipbench.metrics.catalogue import ScoreColumns
    from mlipbench.metrics.density import ForceDensity
    from mlipbench.typing import BoolArray


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """Scores of some structures of a split.

    Attributes:
        errors: The score columns of the task.
        applicable: Shape (n_structures,), whether the energy could be brought to the labels' reference.
        density: Their force components against the labels; None where labels or predictions have none.
    """

    errors: ScoreColumns
    applicable: BoolArray
    density: ForceDensity | None = None

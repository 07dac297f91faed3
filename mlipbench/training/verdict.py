"""Errors on the validation structures, and the verdict on whether a model counts as trained."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mlipbench.checkpoint import TRAINED_SHARE, Verdict
from mlipbench.metrics.statistics import cluster_interval
from mlipbench.metrics.values import Kind, Scale

if TYPE_CHECKING:
    from mlipbench.training.data import LabelledStructures
    from mlipbench.typing import FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Errors:
    """Errors per structure.

    Attributes:
        energy: Shape (n_structures,), eV, |ΔE|.
        forces: Shape (n_structures,), eV/Å, Σ|ΔF| over the components that count; None where there are no forces.
        components: Number of all components that count.
    """

    energy: FloatArray
    forces: FloatArray | None
    components: int

    @property
    def energy_mae(self) -> float:
        """Mean of the energies' errors, eV."""
        return math.fsum(self.energy) / len(self.energy)

    @property
    def forces_mae(self) -> float | None:
        """Mean over components, eV/Å; None where none counts."""
        return math.fsum(self.forces) / self.components if self.forces is not None and self.components else None


def judge(data: LabelledStructures, errors: Errors) -> Verdict:
    """Return whether force errors are certainly below a share of those of a model that predicts no forces.

    Args:
        data: The validation structures.
        errors: Errors on them.
    """
    n = data.n_structures
    components = errors.components
    if data.forces is None or errors.forces is None or components == 0:
        return Verdict(n_structures=n, zero_forces_mae=None, ratio=None, low=None, high=None, trained=False)
    magnitude = np.abs(data.forces).sum(axis=1) * data.counted
    floor = np.bincount(data.structures.structure_index, weights=magnitude, minlength=n).astype(np.float64)
    total = math.fsum(floor)
    interval = cluster_interval(errors.forces, floor, data.clusters, Scale(Kind.POSITIVE))
    return Verdict(
        n_structures=n,
        zero_forces_mae=total / components,
        ratio=math.fsum(errors.forces) / total if total else None,
        low=interval.low,
        high=interval.high,
        trained=interval.high is not None and interval.high < TRAINED_SHARE,
    )

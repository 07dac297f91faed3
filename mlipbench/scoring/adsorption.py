"""Adsorption energies that a model forms from its own predictions of clean slabs and gas molecules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from mlipbench.datasets.references import ReferenceMap
    from mlipbench.typing import FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class AdsorptionReferences:
    """Energies of the reference structures, and which structure uses which.

    Attributes:
        map: For each structure of a split its reference structures and their coefficients.
        labels: Shape (n_references,), eV.
        predictions: Shape (n_references,), eV, NaN where a prediction failed.
    """

    map: ReferenceMap
    labels: FloatArray
    predictions: FloatArray

    def errors(self, energy_error: FloatArray, start: int) -> FloatArray:
        """Return the errors of adsorption energies, E(slab + adsorbate) - E(slab) - Σ E(gas).

        Args:
            energy_error: Shape (n_structures,), predicted minus labelled total energy, both as they are, eV.
            start: Place of the first of these structures in the split.

        Returns:
            Shape (n_structures,), eV; NaN where a structure has no references or one of them was not predicted.
        """
        stop = start + len(energy_error)
        offsets = self.map.offsets[start : stop + 1]
        part = slice(int(offsets[0]), int(offsets[-1]))
        difference = self.predictions - self.labels
        terms = self.map.coefficient[part] * difference[self.map.index[part]]
        owner = np.repeat(np.arange(len(energy_error)), np.diff(offsets))
        total = np.bincount(owner, weights=terms, minlength=len(energy_error))
        return np.where(np.diff(offsets) > 0, energy_error - total, np.nan)

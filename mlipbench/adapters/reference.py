"""Energies that were subtracted from the labels of a training and are added to predictions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from mlipbench.elements import SYMBOLS

if TYPE_CHECKING:
    from mlipbench.checkpoint import EnergyReferenceValues
    from mlipbench.structures import StructureBatch
    from mlipbench.typing import FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class ReferenceEnergies:
    """A sum over atoms and a constant, in float64.

    Attributes:
        per_element: Shape (119,), eV by atomic number.
        offset: eV per structure.
    """

    per_element: FloatArray
    offset: float = 0.0

    @classmethod
    def of_checkpoint(cls, values: EnergyReferenceValues) -> Self:
        """Return the reference that the record of a checkpoint holds."""
        per_element = np.zeros(len(SYMBOLS))
        per_element[list(values.per_element)] = list(values.per_element.values())
        return cls(per_element, values.offset)

    def of(self, batch: StructureBatch) -> FloatArray:
        """Return the reference energy of each structure, shape (n_structures,), eV.

        Args:
            batch: Structures whose atomic numbers are those of known elements.
        """
        energies = np.zeros(batch.n_structures)
        np.add.at(energies, batch.structure_index, self.per_element[batch.numbers])
        return self.offset + energies

"""What counts in a score, and how predicted energies are compared with labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlipbench.scoring.conversion import split_composition
from mlipbench.store.predictions import State

if TYPE_CHECKING:
    from mlipbench.scoring.adsorption import AdsorptionReferences
    from mlipbench.scoring.conversion import EnergyShift
    from mlipbench.store.predictions import PredictionBlock
    from mlipbench.structures import StructureBatch
    from mlipbench.typing import BoolArray, FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Treatment:
    """How a split is scored.

    Attributes:
        free_atoms_only: Whether force errors count free atoms only.
        shift: Added to predicted energies, or None.
        references: What adsorption energies are formed from, or None.
        label_correction: Shape (n_structures,), eV, added to labelled energies; None where there is none.
    """

    free_atoms_only: bool
    shift: EnergyShift | None = None
    references: AdsorptionReferences | None = None
    label_correction: FloatArray | None = None

    def predicted_energy(self, block: PredictionBlock, structures: StructureBatch) -> tuple[FloatArray, BoolArray]:
        """Return predicted energies after the shift, and where they can be compared with labels.

        Args:
            block: Predictions of some structures.
            structures: These structures.

        Returns:
            Shape (n_structures,) in eV, and shape (n_structures,).
        """
        energy: FloatArray = block.columns["energy"]
        ok: BoolArray = block.state == State.OK
        if self.shift is None:
            return energy, ok
        composition, foreign = split_composition(
            structures.numbers, structures.structure_index, self.shift.elements, len(block)
        )
        added, known = self.shift.apply(composition, foreign)
        return energy + added, ok & known

    def labelled_energy(self, energy: FloatArray | None, start: int) -> FloatArray | None:
        """Return labelled energies after the correction.

        Args:
            energy: Shape (n_structures,), eV, or None where there are none.
            start: Place of the first of these structures in the split.
        """
        if energy is None or self.label_correction is None:
            return energy
        corrected: FloatArray = energy + self.label_correction[start : start + len(energy)]
        return corrected

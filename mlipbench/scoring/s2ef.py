"""Scores of predicted energies, forces and stresses."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mlipbench.metrics.errors import structure_errors
from mlipbench.metrics.values import PropertyArrays
from mlipbench.store.predictions import State

if TYPE_CHECKING:
    from mlipbench.metrics.values import StructureErrors
    from mlipbench.scoring.treatment import Treatment
    from mlipbench.store.predictions import PredictionBlock
    from mlipbench.structures.columnar import Split
    from mlipbench.typing import BoolArray


def score_predicted(
    split: Split, block: PredictionBlock, start: int, treatment: Treatment
) -> tuple[StructureErrors, BoolArray]:
    """Score the predictions of some structures as they are.

    Args:
        split: The data.
        block: The predictions.
        start: Place of the first of these structures in the split.
        treatment: What counts, and how energies are compared.

    Returns:
        Their error sums, and shape (n_structures,), whether the energy could be brought to the labels' reference.
    """
    stop = start + len(block)
    labels, structures = split.labels(start, stop), split.structures(start, stop)
    free = ~structures.fixed if treatment.free_atoms_only and structures.fixed is not None else None
    predicted, applicable = treatment.predicted_energy(block, structures)
    errors = structure_errors(
        PropertyArrays(treatment.labelled_energy(labels.energy, start), labels.forces, labels.stress),
        PropertyArrays(predicted, block.columns.get("forces"), block.columns.get("stress")),
        structures.offsets,
        free,
        block.state == State.OK,
    )
    if treatment.references is not None and labels.energy is not None:
        adsorption = treatment.references.errors(block.columns["energy"] - labels.energy, start)
        errors = replace(errors, adsorption_energy_error=adsorption)
    return errors, applicable

"""Scores of predicted energies, forces and stresses."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from mlipbench.metrics.density import ForceDensity
from mlipbench.metrics.errors import structure_errors
from mlipbench.metrics.values import PropertyArrays
from mlipbench.scoring.scored import Scored
from mlipbench.store.predictions import State

if TYPE_CHECKING:
    from mlipbench.metrics.values import StructureErrors
    from mlipbench.scoring.treatment import Treatment
    from mlipbench.store.predictions import PredictionBlock
    from mlipbench.structures import StructureBatch
    from mlipbench.structures.columnar import Split
    from mlipbench.typing import BoolArray


def score_predicted(split: Split, block: PredictionBlock, start: int, treatment: Treatment) -> Scored:
    """Score the predictions of some structures as they are.

    Args:
        split: The data.
        block: The predictions.
        start: Place of the first of these structures in the split.
        treatment: What counts, and how energies are compared.
    """
    stop = start + len(block)
    labels, structures = split.labels(start, stop), split.structures(start, stop)
    free = ~structures.fixed if treatment.free_atoms_only and structures.fixed is not None else None
    predicted, applicable = treatment.predicted_energy(block, structures)
    forces = block.columns.get("forces")
    errors = structure_errors(
        PropertyArrays(treatment.labelled_energy(labels.energy, start), labels.forces, labels.stress),
        PropertyArrays(predicted, forces, block.columns.get("stress")),
        structures.offsets,
        free,
        block.state == State.OK,
    )
    if treatment.references is not None and labels.energy is not None:
        adsorption = treatment.references.errors(block.columns["energy"] - labels.energy, start)
        errors = replace(errors, adsorption_energy_error=adsorption)
    density = None
    if labels.forces is not None and forces is not None:
        counted = _counted(errors, structures, free)
        density = ForceDensity.of(labels.forces[counted], forces[counted])
    return Scored(errors, applicable, density)


def _counted(errors: StructureErrors, structures: StructureBatch, free: BoolArray | None) -> BoolArray:
    """Return the atoms whose forces entered the error sums, shape (n_atoms,)."""
    known: BoolArray = np.repeat(~np.isnan(errors.force_abs_sum), structures.counts)
    return known if free is None else known & free

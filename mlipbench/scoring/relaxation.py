"""Scores of relaxations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mlipbench.metrics.relaxation import RelaxationErrors, adsorbate_heights, displacement_sums, displacements
from mlipbench.scoring.scored import Scored
from mlipbench.store.predictions import State

if TYPE_CHECKING:
    from mlipbench.scoring.treatment import Treatment
    from mlipbench.store.predictions import PredictionBlock
    from mlipbench.structures.columnar import Split


def score_relaxed(split: Split, block: PredictionBlock, start: int, treatment: Treatment) -> Scored:
    """Score the relaxations of some structures.

    Args:
        split: The data.
        block: What the relaxations ended in.
        start: Place of the first of these structures in the split.
        treatment: How energies are compared. Displacements always count free atoms, as the others never move.
    """
    stop, n = start + len(block), len(block)
    labels, structures = split.labels(start, stop), split.structures(start, stop)
    ok = block.state == State.OK
    free = np.ones(structures.n_atoms, dtype=np.bool_) if structures.fixed is None else ~structures.fixed
    owner = structures.structure_index
    predicted, applicable = treatment.predicted_energy(block, structures)
    target = treatment.labelled_energy(labels.relaxed_energy, start)
    mean = absolute = np.full(n, np.nan)
    if labels.relaxed_positions is not None:
        displaced = displacements(structures, block.columns["positions"], labels.relaxed_positions)
        mean, absolute = displacement_sums(displaced, free, owner, n)
    columns = RelaxationErrors(
        n_atoms=structures.counts,
        n_free=np.bincount(owner[free], minlength=n),
        energy_error=np.full(n, np.nan) if target is None else predicted - target,
        displacement_mean=mean,
        displacement_abs_sum=absolute,
        steps=np.where(ok, block.columns["steps"], np.nan),
        converged=np.where(ok, block.columns["converged"], np.nan),
        adsorbate_height=adsorbate_heights(structures, block.columns["positions"]),
    )
    return Scored(columns, applicable)

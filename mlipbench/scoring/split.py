"""Scores of one split, block by block of its stored predictions."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mlipbench.errors import ResultsError
from mlipbench.metrics.errors import PropertyArrays, StructureErrors, structure_errors
from mlipbench.scoring.conversion import split_composition
from mlipbench.store.predictions import State, read_predictions

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mlipbench.scoring.adsorption import AdsorptionReferences
    from mlipbench.scoring.conversion import EnergyShift
    from mlipbench.store.predictions import PredictionBlock
    from mlipbench.structures.columnar import Split
    from mlipbench.typing import BoolArray, FloatArray, IntArray, StrArray


@dataclass(frozen=True, slots=True, eq=False)
class EnergyTreatment:
    """How energies of a split are compared.

    Attributes:
        shift: Added to predictions, or None.
        references: What adsorption energies are formed from, or None.
        label_correction: Shape (n_structures,), eV, added to the labels; None where there is none.
    """

    shift: EnergyShift | None = None
    references: AdsorptionReferences | None = None
    label_correction: FloatArray | None = None


@dataclass(frozen=True, slots=True, eq=False)
class SplitScores:
    """Scores of the structures of one split.

    Attributes:
        errors: Error sums.
        state: Shape (n_structures,), `State` of each structure.
        energy_applicable: Shape (n_structures,), whether the energy could be brought to the labels' reference.
        clusters: Shape (n_structures,), cluster codes.
        ids: Shape (n_structures,), names.
        declined: Reasons of structures the model declines, with the number of structures of each.
    """

    errors: StructureErrors
    state: IntArray
    energy_applicable: BoolArray
    clusters: IntArray
    ids: StrArray
    declined: Mapping[str, int]


def score_split(path: Path, split: Split, size: int, *, free_atoms_only: bool, energy: EnergyTreatment) -> SplitScores:
    """Score one split.

    Args:
        path: Parquet file of the predictions.
        split: The data.
        size: Structures that must have been predicted.
        free_atoms_only: Whether force errors count free atoms only.
        energy: How energies are compared.

    Raises:
        ResultsError: The predictions are damaged or do not fit the split.
    """
    errors: list[StructureErrors] = []
    states: list[IntArray] = []
    applicable: list[BoolArray] = []
    declined: dict[str, int] = {}
    start = 0
    for block in read_predictions(path):
        stop = start + len(block)
        if stop > size or not np.array_equal(np.diff(block.offsets), split.counts[start:stop]):
            raise ResultsError("the predictions do not fit the split's structures", file=path)
        block_errors, known = _score_block(split, block, start, free_atoms_only=free_atoms_only, energy=energy)
        errors.append(block_errors)
        applicable.append(known)
        states.append(block.state)
        for place in np.flatnonzero(block.state == State.NOT_APPLICABLE):
            reason = block.reasons.get(int(place), "no reason given")
            declined[reason] = declined.get(reason, 0) + 1
        start = stop
    if start != size:
        raise ResultsError(f"predictions of {start} structures, expected {size}", file=path)
    return SplitScores(
        errors=_join(errors),
        state=np.concatenate(states),
        energy_applicable=np.concatenate(applicable),
        clusters=np.asarray(split.clusters[:size]),
        ids=split.ids[:size],
        declined=declined,
    )


def _score_block(
    split: Split, block: PredictionBlock, start: int, *, free_atoms_only: bool, energy: EnergyTreatment
) -> tuple[StructureErrors, BoolArray]:
    stop = start + len(block)
    labels = split.labels(start, stop)
    structures = split.structures(start, stop)
    ok = block.state == State.OK
    free = ~structures.fixed if free_atoms_only and structures.fixed is not None else None
    predicted = block.energy
    applicable = ok
    if energy.shift is not None:
        composition, foreign = split_composition(
            structures.numbers, structures.structure_index, energy.shift.elements, len(block)
        )
        added, known = energy.shift.apply(composition, foreign)
        predicted, applicable = predicted + added, ok & known
    target = labels.energy
    if energy.label_correction is not None:
        target = target + energy.label_correction[start:stop]
    errors = structure_errors(
        PropertyArrays(target, labels.forces, labels.stress),
        PropertyArrays(predicted, block.forces, block.stress),
        structures.offsets,
        free,
        ok,
    )
    if energy.references is not None:
        adsorption = energy.references.errors(block.energy - labels.energy, start)
        errors = replace(errors, adsorption_energy_error=adsorption)
    return errors, applicable


def _join(parts: list[StructureErrors]) -> StructureErrors:
    columns: dict[str, Any] = {}
    for field in fields(StructureErrors):
        values = [getattr(part, field.name) for part in parts]
        columns[field.name] = None if values[0] is None else np.concatenate(values)
    return StructureErrors(**columns)

"""What is subtracted from energies before a network sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mlipbench.checkpoint import EnergyReferenceValues
from mlipbench.recipe import ReferenceKind

if TYPE_CHECKING:
    from mlipbench.structures import StructureBatch
    from mlipbench.typing import FloatArray


def fit_reference(kind: ReferenceKind, structures: StructureBatch, energy: FloatArray) -> EnergyReferenceValues:
    """Return the reference of some structures, in float64.

    The mean of their energies, or one energy per element: the minimum-norm least-squares solution ``e`` of
    ``n e = E`` with the composition matrix ``n``, so that compositions that are proportional, or one for all, do no
    harm.

    Args:
        kind: Which rule.
        structures: The training structures.
        energy: Shape (n_structures,), eV.
    """
    if kind is ReferenceKind.MEAN:
        return EnergyReferenceValues(kind=kind, offset=float(np.mean(energy)))
    if kind is ReferenceKind.PER_ELEMENT:
        elements = np.unique(structures.numbers)
        solution = np.linalg.lstsq(_composition(structures)[:, elements], energy, rcond=None)[0]
        shifts = {int(number): float(value) for number, value in zip(elements, solution, strict=True)}
        return EnergyReferenceValues(kind=kind, per_element=shifts)
    return EnergyReferenceValues(kind=kind)


def reference_energies(values: EnergyReferenceValues, structures: StructureBatch) -> FloatArray:
    """Return what is subtracted from the energy of each structure, and added to its prediction.

    Elements without a value count as zero.

    Args:
        values: The reference.
        structures: Any structures.

    Returns:
        Shape (n_structures,), eV.
    """
    shifts = np.zeros(max([int(structures.numbers.max(initial=0)), *values.per_element], default=0) + 1)
    for number, shift in values.per_element.items():
        shifts[number] = shift
    per_atom = shifts[structures.numbers]
    sums = np.bincount(structures.structure_index, weights=per_atom, minlength=structures.n_structures)
    return (sums + values.offset).astype(np.float64)


def _composition(structures: StructureBatch) -> FloatArray:
    width = int(structures.numbers.max(initial=0)) + 1
    places = structures.structure_index * width + structures.numbers
    counts = np.bincount(places, minlength=structures.n_structures * width)
    return counts.reshape(structures.n_structures, width).astype(np.float64)

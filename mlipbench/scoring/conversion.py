"""Bringing labels and predictions to one energy reference, by explicit steps only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mlipbench.elements import SYMBOLS
from mlipbench.errors import NothingSelectedError

if TYPE_CHECKING:
    from mlipbench.structures.columnar import Split
    from mlipbench.typing import BoolArray, FloatArray, IntArray

SPAN_TOLERANCE: Final = 1e-6  # atoms; how far a composition may lie outside the span of the fitted ones
RANK_TOLERANCE: Final = 1e-10  # relative; compositions are small integers, so that real directions stand far above it


@dataclass(frozen=True, slots=True, eq=False)
class EnergyShift:
    """Per-element energies that are added to predictions.

    The least-squares solution of smallest norm; where compositions do not determine every element on its own, only
    compositions in their span have a shift at all.

    Attributes:
        elements: Shape (n_elements,), atomic numbers.
        energies: Shape (n_elements,), eV per atom.
        projector: Shape (n_elements, n_elements), onto the span of the fitted compositions.
        n_structures: Structures of the fit.
        rmse: Root mean square of what the fit leaves, eV.
    """

    elements: IntArray
    energies: FloatArray
    projector: FloatArray
    n_structures: int
    rmse: float

    def apply(self, composition: FloatArray, foreign: BoolArray) -> tuple[FloatArray, BoolArray]:
        """Return the shift of each structure, and whether it is determined.

        Args:
            composition: Shape (n_structures, n_elements), atoms of each of `elements`.
            foreign: Shape (n_structures,), whether a structure has an element that is not among `elements`.

        Returns:
            Shape (n_structures,) in eV, and shape (n_structures,).
        """
        outside = np.abs(composition @ self.projector - composition).max(axis=1, initial=0.0)
        return composition @ self.energies, (outside <= SPAN_TOLERANCE) & ~foreign

    def as_dict(self, fit: str) -> dict[str, Any]:
        """Return the shift for the run's record."""
        names = [SYMBOLS[z] for z in self.elements]
        return {
            "kind": "per_element",
            "fit": fit,
            "n_structures": self.n_structures,
            "rmse_ev": self.rmse,
            "ev_per_atom": dict(zip(names, self.energies.tolist(), strict=True)),
        }


def fit_shift(split: Split, labels: FloatArray, predictions: FloatArray, ok: BoolArray) -> EnergyShift:
    """Fit label - prediction as a sum of per-element energies, by least squares of minimum norm in float64.

    Args:
        split: The split the shift is fitted on.
        labels: Shape (n_structures,), eV.
        predictions: Shape (n_structures,), eV.
        ok: Shape (n_structures,), whether there is a prediction.

    Raises:
        NothingSelectedError: No structure has a label and a prediction.
    """
    ok = ok & np.isfinite(labels)
    if not ok.any():
        raise NothingSelectedError(
            f"no structure of {split.entry}/{split.name} was predicted, so no energy shift can be fitted"
        )
    elements = np.asarray(sorted(split.elements), dtype=np.int64)
    triangle = _triangle(split, elements, labels - predictions, ok)
    u, singular, vt = np.linalg.svd(triangle[:, :-1], full_matrices=False)
    kept = singular > singular.max() * RANK_TOLERANCE
    basis = vt[kept]
    energies = basis.T @ ((u[:, kept].T @ triangle[:, -1]) / singular[kept])
    left = np.linalg.norm(triangle[:, -1] - triangle[:, :-1] @ energies)
    n_structures = int(ok.sum())
    return EnergyShift(elements, energies, basis.T @ basis, n_structures, float(left / np.sqrt(n_structures)))


def _triangle(split: Split, elements: IntArray, target: FloatArray, ok: BoolArray) -> FloatArray:
    """Return R of the QR factorisation of [composition | target], made piece by piece so that memory stays small.

    Orthogonal steps keep what least squares needs: ``|composition x - target|`` is ``|R[:, :-1] x - R[:, -1]|``.
    """
    triangle = np.zeros((0, len(elements) + 1))
    for start, stop in split.chunks():
        structures = split.structures(start, stop)
        counts, _ = split_composition(structures.numbers, structures.structure_index, elements, stop - start)
        rows = np.column_stack([counts, target[start:stop]])[ok[start:stop]]
        triangle = np.asarray(np.linalg.qr(np.concatenate([triangle, rows]), mode="r"))
    return triangle


def split_composition(
    numbers: IntArray, owner: IntArray, elements: IntArray, n_structures: int
) -> tuple[FloatArray, BoolArray]:
    """Count the atoms of each element in each structure.

    Args:
        numbers: Shape (n_atoms,), atomic numbers.
        owner: Shape (n_atoms,), structure of each atom.
        elements: Shape (n_elements,), atomic numbers that are counted, ascending.
        n_structures: Number of structures.

    Returns:
        Shape (n_structures, n_elements), and shape (n_structures,): whether a structure has another element.
    """
    width = len(elements)
    place = np.minimum(np.searchsorted(elements, numbers), width - 1)
    known = elements[place] == numbers
    flat = np.bincount(owner[known] * width + place[known], minlength=n_structures * width)
    foreign = np.bincount(owner[~known], minlength=n_structures) > 0
    return flat.reshape(n_structures, width).astype(np.float64), foreign

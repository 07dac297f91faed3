"""The composition floor: an energy for each element, no forces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from mlipbench.elements import format_elements
from mlipbench.errors import ConfigError, DatasetError
from mlipbench.models.interface import FittedAdapter, Predictions, Property

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlipbench.models.interface import LabelledBatch, LoadRequest
    from mlipbench.structures import StructureBatch
    from mlipbench.typing import AnyArray, FloatArray, IntArray

_RANK: Final = 1e-10  # singular values below this fraction of the largest count as zero
_OUTSIDE: Final = 1e-8  # relative distance from the span of the fitted compositions that counts as outside


@dataclass(frozen=True, slots=True, eq=False)
class ElementEnergies:
    """Energies of elements, determined by least squares.

    Attributes:
        numbers: Shape (n_elements,), atomic numbers, ascending.
        energies: Shape (n_elements,), eV an atom.
        span: Shape (rank, n_elements), orthonormal rows that span the fitted compositions. Only energies of
            compositions within this span are determined: of water alone, neither H nor O is known, but two waters are.
    """

    numbers: IntArray
    energies: FloatArray
    span: FloatArray

    @classmethod
    def fit(cls, structures: StructureBatch, energy: FloatArray) -> Self:
        """Return the solution of least squares that has the least norm, by a singular value decomposition.

        Args:
            structures: The structures of the fit.
            energy: Shape (n_structures,), eV.

        Raises:
            DatasetError: There is no atom, or an energy is not finite.
        """
        if structures.n_atoms == 0:
            raise DatasetError("the fit split holds no atoms")
        if not np.isfinite(energy).all():
            bad = int(np.flatnonzero(~np.isfinite(energy))[0])
            raise DatasetError("an energy of the fit split is not finite", where=f"structure {bad}")
        numbers = np.unique(structures.numbers)
        rows, weights = np.unique(composition(structures, numbers), axis=0, return_counts=True)
        left, singular, right = np.linalg.svd(np.sqrt(weights)[:, None] * rows, full_matrices=False)
        kept = singular > _RANK * singular[0]
        means = _group_means(composition(structures, numbers), rows, energy)
        projected = left[:, kept].T @ (np.sqrt(weights) * means)
        return cls(numbers, right[kept].T @ (projected / singular[kept]), right[kept])

    def total(self, batch: StructureBatch) -> FloatArray:
        """Return the sum over the atoms of each structure, shape (n_structures,), eV."""
        return composition(batch, self.numbers) @ self.energies

    def not_covered(self, batch: StructureBatch) -> dict[int, str]:
        """Return why structures are not covered, by their index in the batch."""
        counts = composition(batch, self.numbers)
        reasons = {}
        for s in np.flatnonzero(counts.sum(axis=1) != batch.counts):
            unknown = set(batch.numbers[batch.offsets[s] : batch.offsets[s + 1]].tolist()) - set(self.numbers.tolist())
            reasons[int(s)] = f"the fit split holds no {format_elements(unknown)}"
        distance = np.linalg.norm(counts - counts @ self.span.T @ self.span, axis=1)
        for s in np.flatnonzero(distance > _OUTSIDE * np.linalg.norm(counts, axis=1)):
            reasons.setdefault(
                int(s), "the compositions of the fit split do not determine the energy of these structures"
            )
        return reasons


def composition(batch: StructureBatch, numbers: IntArray) -> FloatArray:
    """Return how many atoms of each of `numbers` the structures hold, shape (n_structures, n_elements)."""
    shape = (batch.n_structures, len(numbers))
    column = np.searchsorted(numbers, batch.numbers)
    known = column < len(numbers)
    known[known] = numbers[column[known]] == batch.numbers[known]
    flat = batch.structure_index[known] * len(numbers) + column[known]
    return np.bincount(flat, minlength=shape[0] * shape[1]).reshape(shape).astype(np.float64)


def _group_means(counts: FloatArray, rows: FloatArray, energy: FloatArray) -> FloatArray:
    """Return the mean energy of each distinct composition, taken about a common value to keep digits."""
    _, group = np.unique(np.concatenate([rows, counts]), axis=0, return_inverse=True)
    group = group.ravel()[len(rows) :]
    sums = np.bincount(group, energy - energy.mean(), len(rows)).astype(np.float64)
    means: FloatArray = sums / np.bincount(group, minlength=len(rows)) + energy.mean()
    return means


@dataclass(frozen=True, slots=True)
class CompositionAdapter(FittedAdapter):
    """What the composition alone tells: the floor every model must beat.

    Forces are zero. Structures whose composition the fit split does not determine are not applicable.
    """

    elements: ElementEnergies

    @classmethod
    def fit(cls, training: LabelledBatch, kwargs: Mapping[str, Any]) -> dict[str, AnyArray]:
        """Return ``numbers``, ``energies`` and ``span`` as of `ElementEnergies`.

        Raises:
            ConfigError: An argument is given; there are none.
            DatasetError: There is no atom, or an energy is not finite.
        """
        _refuse(kwargs)
        elements = ElementEnergies.fit(training.structures, training.energy)
        return {"numbers": elements.numbers, "energies": elements.energies, "span": elements.span}

    @classmethod
    def load(cls, request: LoadRequest) -> Self:
        """Take the parameters that `fit` returned.

        Raises:
            ConfigError: The parameters are missing.
        """
        _refuse(request.kwargs)
        return cls(element_energies(request.parameters))

    def prepare(self, batch: StructureBatch, neighbors: object | None = None) -> StructureBatch:
        """Return the batch."""
        del neighbors
        return batch

    def forward(self, prepared: StructureBatch, properties: frozenset[Property]) -> Predictions:
        """Add up the energies of the elements."""
        reasons = self.elements.not_covered(prepared)
        energy = self.elements.total(prepared)
        energy[list(reasons)] = np.nan
        forces = None
        if Property.FORCES in properties:
            forces = np.zeros((prepared.n_atoms, 3))
            forces[np.isin(prepared.structure_index, list(reasons))] = np.nan
        return Predictions(energy, forces, not_applicable=reasons)


def element_energies(parameters: Mapping[str, AnyArray]) -> ElementEnergies:
    """Return the energies held by the parameters of a fit.

    Raises:
        ConfigError: The parameters are missing.
    """
    try:
        numbers, energies, span = (np.asarray(parameters[name]) for name in ("numbers", "energies", "span"))
    except KeyError as error:
        raise ConfigError(f"the parameters of the fit lack {error}", remedy="fit the model before loading it") from None
    return ElementEnergies(numbers.astype(np.int64), energies.astype(np.float64), span.astype(np.float64))


def _refuse(kwargs: Mapping[str, Any]) -> None:
    if kwargs:
        raise ConfigError(f"the adapter 'composition' takes no argument {min(kwargs)!r}", where="kwargs")

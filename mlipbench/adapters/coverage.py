"""Which structures of a batch a model takes, why not the others, and the rows of both in one result; its elements."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from mlipbench.elements import SYMBOLS
from mlipbench.errors import ConfigError
from mlipbench.models.interface import Predictions, Property
from mlipbench.structures.neighbors import neighbor_list, within

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from mlipbench.structures import StructureBatch
    from mlipbench.structures.neighbors import NeighborList
    from mlipbench.typing import BoolArray, FloatArray, IntArray

_VOIGT: Final = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
_FLAT: Final = 1e-8  # Å³, volume below which a cell counts as absent


@dataclass(frozen=True, slots=True, eq=False)
class Coverage:
    """Which structures of a batch go through a model.

    Attributes:
        counts: Shape (n_structures,), atoms of every structure of the batch.
        volumes: Shape (n_structures,), Å³, NaN without three lattice vectors.
        reasons: Why the structures that do not go through the model do not, by index.
    """

    counts: IntArray
    volumes: FloatArray
    reasons: dict[int, str] = field(default_factory=dict)

    @classmethod
    def of(cls, batch: StructureBatch) -> Coverage:
        """Return a coverage of all structures that hold atoms."""
        volumes = np.abs(np.linalg.det(batch.cell))
        empty = {int(s): "the structure holds no atoms" for s in np.flatnonzero(batch.counts == 0)}
        return cls(batch.counts, np.where(volumes < _FLAT, np.nan, volumes), empty)

    @property
    def kept(self) -> IntArray:
        """Index in the batch of the structures that go through the model."""
        mask = np.ones(len(self.counts), dtype=np.bool_)
        mask[list(self.reasons)] = False
        return np.flatnonzero(mask)

    def without(self, structures: Iterable[int], reason: str) -> None:
        """Leave structures out; a reason that is there already stays."""
        for s in structures:
            self.reasons.setdefault(int(s), reason)

    def without_elements(self, batch: StructureBatch, known: BoolArray, who: str) -> None:
        """Leave out structures with elements that the model does not know.

        Args:
            batch: The structures.
            known: Shape (n,), by atomic number; what lies beyond is unknown.
            who: Subject of the reason, such as ``the checkpoint``.
        """
        foreign = ~known[np.minimum(batch.numbers, len(known) - 1)] | (batch.numbers >= len(known))
        owners, numbers = batch.structure_index[foreign], batch.numbers[foreign]
        for s in np.unique(owners):
            names = ", ".join(SYMBOLS[z] for z in np.unique(numbers[owners == s]))
            self.reasons.setdefault(int(s), f"{who} does not know {names}")

    def select(self, batch: StructureBatch) -> StructureBatch:
        """Return the structures of the batch that go through the model."""
        return batch.select(self.kept) if self.reasons else batch

    def edges(self, taken: StructureBatch, neighbors: NeighborList | None, cutoff: float) -> NeighborList:
        """Return the edges of the structures that go through the model.

        Args:
            taken: These structures.
            neighbors: Edges of the whole batch that reach at least that far, if there are some; they serve where no
                structure was left out.
            cutoff: Å.
        """
        if neighbors is None or self.reasons:
            return neighbor_list(taken, cutoff)
        return within(neighbors, taken, cutoff)

    def nothing(self, properties: frozenset[Property]) -> Predictions:
        """Return the rows of a batch of which no structure goes through the model.

        Args:
            properties: What is asked for.
        """
        forces = np.zeros((0, 3)) if Property.FORCES in properties else None
        return self.predictions(np.zeros(0), forces, np.zeros((0, 3, 3)) if Property.STRESS in properties else None)

    def predictions(
        self, energy: FloatArray, forces: FloatArray | None = None, virial: FloatArray | None = None
    ) -> Predictions:
        """Return the rows of the whole batch.

        Args:
            energy: Shape (n_kept,), eV.
            forces: Shape (n_kept_atoms, 3), eV/Å.
            virial: Shape (n_kept, 3, 3), eV, derivative of the energy by strain; with it, structures without three
                lattice vectors become not applicable.
        """
        kept, reasons = self.kept, dict(self.reasons)
        rows = np.zeros(len(self.counts), dtype=np.bool_)
        rows[kept] = True
        all_energies = np.full(len(rows), np.nan)
        all_energies[kept] = energy
        all_forces = all_stress = None
        if forces is not None:
            all_forces = np.full((int(self.counts.sum()), 3), np.nan)
            all_forces[np.repeat(rows, self.counts)] = forces
        if virial is not None:
            all_stress = np.full((len(rows), len(_VOIGT)), np.nan)
            symmetric = (virial + virial.transpose(0, 2, 1)) / (2 * self.volumes[kept, None, None])
            all_stress[kept] = np.stack([symmetric[:, a, b] for a, b in _VOIGT], axis=1)
            for s in np.flatnonzero(rows & np.isnan(self.volumes)):
                reasons[int(s)] = "the stress needs three lattice vectors"
                all_energies[s] = np.nan
                if all_forces is not None:
                    all_forces[self.counts[:s].sum() : self.counts[: s + 1].sum()] = np.nan
        return Predictions(all_energies, all_forces, all_stress, reasons)


def rows_of_types(types: list[str], path: Path) -> IntArray:
    """Return the place of each atomic number among the types of a model, shape (119,), -1 where it has none.

    Args:
        types: Names of the types.
        path: The file, for the error.

    Raises:
        ConfigError: A type is no element.
    """
    rows = np.full(len(SYMBOLS), -1)
    for place, name in enumerate(types):
        if name not in SYMBOLS[1:]:
            raise ConfigError(f"its type {name!r} is no element", file=path, remedy="types have to be named by symbols")
        rows[SYMBOLS.index(name)] = place
    return rows

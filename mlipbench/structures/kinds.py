"""What kind of structure a structure is, which decides what can be asked of it."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final

import numpy as np

from mlipbench.structures.neighbors import completed_cell

if TYPE_CHECKING:
    from mlipbench.structures.batch import StructureBatch
    from mlipbench.typing import FloatArray

VACUUM: Final = 6.0
"""Å; a periodic direction with a wider gap between atoms is an open one, as above a slab."""


class Kind(StrEnum):
    """A kind of structure."""

    ATOM = "atom"  # one atom, nothing periodic
    DIMER = "dimer"  # two of them
    MOLECULE = "molecule"  # more of them
    SLAB = "slab"  # periodic, but open in a direction
    CRYSTAL = "crystal"  # periodic in all directions and open in none


def kind_of(structure: StructureBatch) -> Kind:
    """Return the kind of a single structure."""
    if structure.pbc.any():
        return Kind.CRYSTAL if open_direction(structure) is None else Kind.SLAB
    return {1: Kind.ATOM, 2: Kind.DIMER}.get(structure.n_atoms, Kind.MOLECULE)


def open_direction(structure: StructureBatch) -> int | None:
    """Return the lattice direction along which a single structure has most vacuum; None where it has none.

    A direction without periodicity is open. One with periodicity is where a gap between atoms, measured along the
    normal of the two other lattice vectors, is wider than `VACUUM`.
    """
    pbc = structure.pbc[0]
    if not pbc.all():
        return int(np.flatnonzero(~pbc)[-1])
    cell = structure.cell[0]
    gaps = widest_gaps(structure)
    heights = 1 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    widths = gaps * heights
    return int(np.argmax(widths)) if widths.max() > VACUUM else None


def widest_gaps(structure: StructureBatch) -> FloatArray:
    """Return the widest gap between atoms of a periodic structure along each lattice vector, shape (3,), scaled."""
    cell = completed_cell(structure.cell[0], structure.pbc[0])
    scaled = np.sort((structure.positions @ np.linalg.inv(cell)) % 1.0, axis=0)
    around = np.concatenate([scaled, scaled[:1] + 1.0])
    gaps: FloatArray = np.diff(around, axis=0).max(axis=0)
    return gaps

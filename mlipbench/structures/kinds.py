"""What kind of structure a structure is, which decides what can be asked of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from mlipbench.structures.batch import StructureBatch

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

    A direction without periodicity is open. One with periodicity is where its widest gap is wider than `VACUUM`.
    """
    pbc = structure.pbc[0]
    if not pbc.all():
        return int(np.flatnonzero(~pbc)[-1])
    widths = [widest_gap(structure, axis).width for axis in range(3)]
    return int(np.argmax(widths)) if max(widths) > VACUUM else None


@dataclass(frozen=True, slots=True)
class Gap:
    """The widest gap between the atoms of a periodic structure along a lattice vector.

    Attributes:
        width: Å, along the normal of the two other lattice vectors.
        below: The atom at which it begins.
        above: The atom at which it ends, or an image of it.
    """

    width: float
    below: int
    above: int


def widest_gap(structure: StructureBatch, axis: int) -> Gap:
    """Return the widest gap of a single structure, periodic in all directions, along a lattice vector."""
    inverse = np.linalg.inv(structure.cell[0])
    inside = (structure.positions @ inverse[:, axis]) % 1.0
    order = np.argsort(inside, kind="stable")
    gaps = np.diff(np.append(inside[order], inside[order[0]] + 1.0))
    widest = int(np.argmax(gaps))
    height = 1.0 / np.linalg.norm(inverse[:, axis])
    return Gap(float(gaps[widest] * height), int(order[widest]), int(order[(widest + 1) % len(order)]))

"""What a model is given in molecular dynamics: wrapped positions, and a neighbour list that outlives several steps.

A list of the harness reaches beyond the model's cutoff by a skin. It holds until an atom has moved by half the skin
since it was made (Verlet, Physical Review 159 (1967) 98); each replica has its own, made anew when it alone says so.
Every few steps those are made that would not hold until the next such step, since joining them costs most.

Atoms are brought into the cell when a list is made and may leave it until the next one, so that no atom jumps under a
list. A model that builds its own lists gets every atom inside the cell at each step.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

from mlipbench.structures.neighbors import NeighborList, completed_cell, neighbor_list

if TYPE_CHECKING:
    from mlipbench.structures import StructureBatch
    from mlipbench.typing import BoolArray, FloatArray, IntArray

_AHEAD: Final = 10  # steps


class Surroundings:
    """The structures and lists of replicas that move.

    Args:
        start: The replicas where they begin.
        cutoff: Å, the model's where it takes a list of the harness; None where it builds its own.
        skin: Å.
    """

    def __init__(self, start: StructureBatch, cutoff: float | None, skin: float) -> None:
        """Make no list yet."""
        self._start = start
        self._owner = start.structure_index
        self._cutoff = cutoff
        self._skin = skin
        self._frames = np.stack([_frame(start, place) for place in range(start.n_structures)])
        self._inverses = np.linalg.inv(self._frames)
        self._shifts = np.zeros_like(start.positions)
        self._listed = np.full_like(start.positions, np.inf)
        self._lists: list[NeighborList | None] = [None] * start.n_structures
        self._joined: NeighborList | None = None
        self._made = np.zeros(start.n_structures, dtype=np.int64)
        self._calls = 0
        self.builds = 0

    def at(self, positions: FloatArray) -> tuple[StructureBatch, NeighborList | None]:
        """Return what the model is given.

        Args:
            positions: Shape (n_atoms, 3), Å, not wrapped.

        Returns:
            The structures, and the list of all pairs within the cutoff and some beyond it; None where the model builds
            its own.
        """
        if self._cutoff is None:
            return self._start.moved(positions + self._wrap(positions, self._owner)), None
        self._calls += 1
        due = self._due(positions)
        if due.size:
            self._renew(positions, due)
        return self._start.moved(positions + self._shifts), self._joined

    def _due(self, positions: FloatArray) -> IntArray:
        """Return the replicas whose lists no longer hold, or at every so many steps will not for so many more."""
        moved = positions - self._listed
        squared = np.einsum("ik,ik->i", moved, moved)
        if self._calls % _AHEAD and math.sqrt(squared.max()) < 0.5 * self._skin:
            return np.zeros(0, dtype=np.int64)
        farthest = np.sqrt(np.maximum.reduceat(squared, self._start.offsets[:-1]))
        if self._calls % _AHEAD == 0:
            farthest *= 1 + _AHEAD / (self._calls - self._made)
        return np.flatnonzero(farthest >= 0.5 * self._skin)

    def _wrap(self, positions: FloatArray, owner: IntArray) -> FloatArray:
        """Return the lattice vectors that bring atoms into their cell, shape (n_atoms, 3), Å."""
        scaled = np.einsum("ik,ikl->il", positions, self._inverses[owner])
        whole = np.where(self._start.pbc[owner], -np.floor(scaled), 0.0)
        shifts: FloatArray = np.einsum("ik,ikl->il", whole, self._frames[owner])
        return shifts

    def _renew(self, positions: FloatArray, places: IntArray) -> None:
        """Make the lists of some replicas again."""
        atoms = np.isin(self._owner, places)
        self._shifts[atoms] = self._wrap(positions[atoms], self._owner[atoms])
        self._listed[atoms] = positions[atoms]
        self._made[places] = self._calls
        wrapped = self._start.moved(positions + self._shifts)
        for place in places.tolist():
            self._lists[place] = neighbor_list(wrapped.slice(place, place + 1), float(self._cutoff or 0) + self._skin)
        self._joined = joined([found for found in self._lists if found is not None], self._start.offsets)
        self.builds += len(places)


def joined(lists: list[NeighborList], offsets: IntArray) -> NeighborList:
    """Return the lists of single structures as that of the batch they make up.

    Args:
        lists: One for each structure, in order, with one cutoff.
        offsets: Shape (n_structures + 1,), atoms of each structure.
    """
    firsts = offsets[:-1].tolist()
    return NeighborList(
        cutoff=lists[0].cutoff,
        i=np.concatenate([one.i + first for one, first in zip(lists, firsts, strict=True)]),
        j=np.concatenate([one.j + first for one, first in zip(lists, firsts, strict=True)]),
        shifts=np.concatenate([one.shifts for one in lists]),
        offsets=np.concatenate([[0], np.cumsum([one.n_edges for one in lists], dtype=np.int64)]),
    )


def _frame(batch: StructureBatch, place: int) -> FloatArray:
    """Return the cell of a structure, completed along directions without periodicity."""
    pbc: BoolArray = batch.pbc[place]
    if not pbc.any():
        return np.eye(3)
    return completed_cell(batch.cell[place], pbc)

"""Neighbour lists of whole batches, by vesin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from vesin import NeighborList as VesinList

    from mlipbench.structures.batch import StructureBatch
    from mlipbench.typing import BoolArray, FloatArray, IntArray

SHELL_WIDTH: Final = 0.01
"""Å², how far a neighbour may lie beyond the last one counted and still belong to its shell (OC20's rule)."""
_FLAT = 1e-8  # volume spanned by the unit vectors of the periodic directions below which they count as dependent


@dataclass(frozen=True, slots=True)
class NeighborCap:
    """How many neighbours an atom may have.

    Attributes:
        nearest: The number K.
        whole_shells: Whether shells are kept whole: every neighbour stays whose squared distance exceeds that of the
            (K + 1)-th nearest by at most `SHELL_WIDTH`, so that at least K + 1 stay where more than K are there. This
            is the rule of the OC20 code base where it builds graphs itself. Without, exactly K stay; among equally
            distant ones the first in the list, which breaks the symmetry of crystals.

    Raises:
        ValueError: The number is not positive.
    """

    nearest: int
    whole_shells: bool

    def __post_init__(self) -> None:
        """Refuse a number that leaves nothing."""
        if self.nearest < 1:
            raise ValueError(f"a cap of {self.nearest} neighbours leaves none")


@dataclass(frozen=True, slots=True, eq=False)
class NeighborList:
    """All ordered pairs of atoms closer than a cutoff, flat over a batch.

    Every pair stands twice, once from each end, and an atom is a neighbour of its own images. The vector of an edge is
    ``positions[j] + shifts @ cell - positions[i]``. The edges of a structure lie together, in order of structures.

    Attributes:
        cutoff: Å; edges are shorter than this.
        i: Shape (n_edges,), index in the batch of the atom an edge starts at.
        j: Shape (n_edges,), index in the batch of the atom an edge ends at.
        shifts: Shape (n_edges, 3), lattice vectors added to atom ``j``; zero in directions without periodicity.
        offsets: Shape (n_structures + 1,); structure ``s`` owns edges ``offsets[s]:offsets[s + 1]``.
    """

    cutoff: float
    i: IntArray
    j: IntArray
    shifts: IntArray
    offsets: IntArray

    @property
    def n_edges(self) -> int:
        """Number of edges of all structures together."""
        return len(self.i)

    @property
    def counts(self) -> IntArray:
        """Shape (n_structures,), edges of each structure."""
        return np.diff(self.offsets)

    @property
    def structure_index(self) -> IntArray:
        """Shape (n_edges,), the structure each edge belongs to."""
        return np.repeat(np.arange(len(self.offsets) - 1), self.counts)

    def vectors(self, batch: StructureBatch) -> FloatArray:
        """Return the vectors of the edges, shape (n_edges, 3), Å.

        The positions may have moved since the list was made: with a list that is longer than a model's cutoff by a
        skin, edges beyond the cutoff are for the model to drop.

        Args:
            batch: The structures the list was made of.
        """
        between = batch.positions[self.j] - batch.positions[self.i]
        shifted = np.flatnonzero(self.shifts.any(axis=1))
        cells = batch.cell[self.structure_index[shifted]]
        between[shifted] += np.einsum("ek,ekd->ed", self.shifts[shifted].astype(np.float64), cells)
        return between


def neighbor_list(batch: StructureBatch, cutoff: float) -> NeighborList:
    """Find all pairs closer than `cutoff`.

    Atoms may lie outside the cell, the cell may be smaller than the cutoff, triclinic, left-handed, or absent; lattice
    vectors of directions without periodicity do not matter.

    Args:
        batch: The structures.
        cutoff: Å, positive.

    Raises:
        ValueError: The cutoff is not positive and finite, a structure has coordinates that are not finite, or its
            periodic lattice vectors are linearly dependent.
    """
    if not (np.isfinite(cutoff) and cutoff > 0):
        raise ValueError(f"the cutoff must be positive, not {cutoff}")
    from vesin import NeighborList as VesinList

    search = VesinList(cutoff=cutoff, full_list=True, sorted=True, n_threads=1)
    found = [_pairs(search, batch, s) for s in range(batch.n_structures)]
    counts = [len(shifts) for _, shifts in found]
    pairs = np.concatenate([np.zeros((0, 2), dtype=np.int64), *(pairs for pairs, _ in found)])
    return NeighborList(
        cutoff=float(cutoff),
        i=np.ascontiguousarray(pairs[:, 0]),
        j=np.ascontiguousarray(pairs[:, 1]),
        shifts=np.concatenate([np.zeros((0, 3), dtype=np.int64), *(shifts for _, shifts in found)]),
        offsets=np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]),
    )


def within(neighbors: NeighborList, batch: StructureBatch, cutoff: float) -> NeighborList:
    """Return the edges shorter than `cutoff`, of a list that may be longer and whose atoms may have moved.

    Args:
        neighbors: The list.
        batch: The structures it was made of.
        cutoff: Å.
    """
    short = np.einsum("ek,ek->e", *[neighbors.vectors(batch)] * 2) < cutoff * cutoff
    return _selected(neighbors, short, float(cutoff))


def nearest_neighbors(neighbors: NeighborList, batch: StructureBatch, cap: NeighborCap) -> NeighborList:
    """Return the edges that a cap leaves each atom; the order is kept.

    An edge may stay whose reverse goes.

    Args:
        neighbors: The list, sorted by the atom edges start at.
        batch: The structures it was made of.
        cap: The cap.
    """
    counts = np.bincount(neighbors.i, minlength=batch.n_atoms)
    if counts.max(initial=0) <= cap.nearest:
        return neighbors
    vectors = neighbors.vectors(batch)
    squared = np.einsum("ek,ek->e", vectors, vectors)
    by_distance = np.lexsort((squared, neighbors.i))
    starts = np.cumsum(counts) - counts
    rank = np.empty(len(squared), dtype=np.int64)
    rank[by_distance] = np.arange(len(squared)) - starts[neighbors.i[by_distance]]
    kept = rank < cap.nearest
    if cap.whole_shells:
        crowded = counts > cap.nearest
        reach = np.full(batch.n_atoms, np.inf)
        reach[crowded] = squared[by_distance[starts[crowded] + cap.nearest]] + SHELL_WIDTH
        kept = squared <= reach[neighbors.i]
    return _selected(neighbors, kept, neighbors.cutoff)


def _selected(neighbors: NeighborList, kept: BoolArray, cutoff: float) -> NeighborList:
    before = np.concatenate([[0], np.cumsum(kept)])
    return NeighborList(
        cutoff=cutoff,
        i=neighbors.i[kept],
        j=neighbors.j[kept],
        shifts=neighbors.shifts[kept],
        offsets=before[neighbors.offsets],
    )


def _pairs(search: VesinList, batch: StructureBatch, structure: int) -> tuple[IntArray, IntArray]:
    """Return the pairs, as indices in the batch, and the shifts of one structure."""
    first, last = batch.offsets[structure : structure + 2]
    positions = np.ascontiguousarray(batch.positions[first:last])
    if len(positions) == 0:
        return np.zeros((0, 2), dtype=np.int64), np.zeros((0, 3), dtype=np.int64)
    if not (np.isfinite(positions).all() and np.isfinite(batch.cell[structure]).all()):
        raise ValueError(f"structure {structure} has coordinates that are not finite")
    pbc = np.ascontiguousarray(batch.pbc[structure])
    try:
        box = completed_cell(batch.cell[structure], pbc)
    except ValueError as error:
        raise ValueError(f"structure {structure}: {error}") from error
    pairs, shifts = search.compute(positions, box, pbc, quantities="PS", copy=False)
    # int64 copies: the arrays of vesin are views that the next structure overwrites
    return pairs.astype(np.int64) + first, shifts.astype(np.int64)


def completed_cell(cell: FloatArray, pbc: BoolArray) -> FloatArray:
    """Return a cell whose vectors along directions without periodicity are unit vectors across the periodic ones.

    Such vectors may be zero or dependent in the input (molecules, slabs, wires) and do not matter to the structure.

    Args:
        cell: Shape (3, 3), Å, rows are lattice vectors.
        pbc: Shape (3,).

    Raises:
        ValueError: The lattice vectors of the periodic directions are zero or linearly dependent.
    """
    kept = cell[pbc]
    lengths = np.linalg.norm(kept, axis=1)
    if not (lengths > 0).all():
        raise ValueError("a periodic direction has no lattice vector")
    if pbc.all():
        if abs(np.linalg.det(kept / lengths[:, None])) < _FLAT:
            raise ValueError("the lattice vectors are linearly dependent")
        return np.ascontiguousarray(cell)
    _, spread, rows = np.linalg.svd(kept / lengths[:, None], full_matrices=True)
    if spread.size and np.prod(spread) < _FLAT:
        raise ValueError("the lattice vectors of the periodic directions are linearly dependent")
    completed = np.array(cell)
    completed[~pbc] = rows[len(kept) :]
    return completed

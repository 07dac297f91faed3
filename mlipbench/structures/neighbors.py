"""Neighbour lists of whole batches, by vesin."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlipbench.structures.batch import StructureBatch
    from mlipbench.typing import BoolArray, FloatArray, IntArray

SHELL_WIDTH: Final = 0.01
"""Å², how far a neighbour may lie beyond the last one counted and still belong to its shell (OC20's rule)."""
_FLAT = 1e-8  # volume spanned by the unit vectors of the periodic directions below which they count as dependent
_FARTHEST = 1e9  # Å, coordinate beyond which float64 no longer resolves 1e-7 Å
# vesin sorts atoms into bins as wide as the cutoff. From 1e5 bins on it may divide by zero; it counts them in 32 bits;
# and where some directions are periodic and others not, it walks along the others from each bin to all.
_MOST_BINS = 4e4
_FARTHEST_CELL = 100


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
    ``positions[j] + shifts @ cell - positions[i]``. The edges of a structure lie together, in order of structures, and
    within one in order of ``i``; the order of the edges of an atom is unspecified.

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
        between = batch.positions.take(self.j, axis=0)
        between -= batch.positions.take(self.i, axis=0)
        for s in np.flatnonzero(
            batch.pbc.any(axis=1)
        ):  # one cell at a time: gathering a cell per edge takes far longer
            own = slice(self.offsets[s], self.offsets[s + 1])
            between[own] += np.einsum("ek,kd->ed", self.shifts[own].astype(np.float64), batch.cell[s])
        return between


def neighbor_list(batch: StructureBatch, cutoff: float) -> NeighborList:
    """Find all pairs closer than `cutoff`.

    Atoms may lie outside the cell, the cell may be smaller than the cutoff, triclinic, left-handed, or absent; lattice
    vectors of directions without periodicity do not matter.

    Args:
        batch: The structures.
        cutoff: Å, positive.

    Raises:
        ValueError: The cutoff is not positive and finite, a structure has coordinates that are not finite or beyond
            10⁹ Å, or its periodic lattice vectors are linearly dependent.
    """
    if not (np.isfinite(cutoff) and cutoff > 0):
        raise ValueError(f"the cutoff must be positive, not {cutoff}")
    boxes = np.array([_box(batch, s) for s in range(batch.n_structures)]).reshape(-1, 3, 3)
    found = list(_pairs(batch, boxes, cutoff))
    pairs = np.concatenate([np.zeros((0, 2), dtype=np.int64), *(pairs for pairs, _ in found)])
    return NeighborList(
        cutoff=float(cutoff),
        i=np.ascontiguousarray(pairs[:, 0]),
        j=np.ascontiguousarray(pairs[:, 1]),
        shifts=np.concatenate([np.zeros((0, 3), dtype=np.int64), *(shifts for _, shifts in found)]),
        offsets=np.concatenate([[0], np.cumsum([len(shifts) for _, shifts in found], dtype=np.int64)]),
    )


def within(neighbors: NeighborList, batch: StructureBatch, cutoff: float) -> NeighborList:
    """Return the edges shorter than `cutoff`, of a list that may be longer and whose atoms may have moved.

    Args:
        neighbors: The list.
        batch: The structures it was made of.
        cutoff: Å.
    """
    return _selected(neighbors, _squared_lengths(neighbors, batch) < cutoff * cutoff, float(cutoff))


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
    squared = _squared_lengths(neighbors, batch)
    starts = np.cumsum(counts) - counts
    kept = np.ones(len(squared), dtype=np.bool_)
    for count in np.unique(counts[counts > cap.nearest]):  # atoms with equally many neighbours form a matrix
        edges = starts[counts == count][:, None] + np.arange(count)
        distances = squared[edges]
        if cap.whole_shells:
            reach = np.partition(distances, cap.nearest, axis=1)[:, cap.nearest, None] + SHELL_WIDTH
            kept[edges] = distances <= reach
        else:
            farther = np.argsort(distances, axis=1, kind="stable")[:, cap.nearest :]
            kept[np.take_along_axis(edges, farther, axis=1)] = False
    return _selected(neighbors, kept, neighbors.cutoff)


def _squared_lengths(neighbors: NeighborList, batch: StructureBatch) -> FloatArray:
    vectors = neighbors.vectors(batch)
    squared: FloatArray = np.einsum("ek,ek->e", vectors, vectors)
    return squared


def _selected(neighbors: NeighborList, kept: BoolArray, cutoff: float) -> NeighborList:
    before = np.concatenate([[0], np.cumsum(kept)])
    return NeighborList(
        cutoff=cutoff,
        i=neighbors.i[kept],
        j=neighbors.j[kept],
        shifts=neighbors.shifts[kept],
        offsets=before[neighbors.offsets],
    )


def _box(batch: StructureBatch, structure: int) -> FloatArray:
    """Return the completed cell of a structure whose coordinates are in order."""
    first, last = batch.offsets[structure : structure + 2]
    if first == last:
        return np.eye(3)
    positions, cell = batch.positions[first:last], batch.cell[structure]
    if not (np.isfinite(positions).all() and np.isfinite(cell).all()):
        raise ValueError(f"structure {structure} has coordinates that are not finite")
    if np.abs(positions).max() > _FARTHEST:
        raise ValueError(f"structure {structure} has atoms more than {_FARTHEST:g} Å from the origin")
    try:
        return completed_cell(cell, batch.pbc[structure])
    except ValueError as error:
        raise ValueError(f"structure {structure}: {error}") from error


def _pairs(batch: StructureBatch, boxes: FloatArray, cutoff: float) -> Iterator[tuple[IntArray, IntArray]]:
    """Yield the pairs, as indices in the batch and in order of the first, and the shifts of each structure."""
    from vesin import NeighborList as VesinList

    search = VesinList(cutoff=cutoff, full_list=True, sorted=True, n_threads=1)
    sprawling = _sprawling(batch, boxes, cutoff)
    for s, (first, last) in enumerate(itertools.pairwise(batch.offsets)):
        positions, pbc = np.ascontiguousarray(batch.positions[first:last]), np.ascontiguousarray(batch.pbc[s])
        if first == last:
            yield np.zeros((0, 2), dtype=np.int64), np.zeros((0, 3), dtype=np.int64)
        elif sprawling[s]:
            pairs, shifts = _scattered_pairs(positions, boxes[s], pbc, cutoff)
            yield pairs + first, shifts
        else:
            pairs, shifts = search.compute(positions, boxes[s], pbc, quantities="PS", copy=False)
            # int64 copies: the arrays of vesin are views that the next structure overwrites
            yield pairs.astype(np.int64) + first, shifts.astype(np.int64)


def _sprawling(batch: StructureBatch, boxes: FloatArray, cutoff: float) -> BoolArray:
    """Return which structures are too wide, or reach too far out of their cell, for vesin, shape (n_structures,)."""
    inverses = np.linalg.inv(boxes)
    fractional = np.einsum("nk,nkd->nd", batch.positions, inverses.take(batch.structure_index, axis=0))
    coordinates = np.where(batch.pbc.take(batch.structure_index, axis=0), fractional, batch.positions)
    low, high = np.zeros((2, batch.n_structures, 3))
    filled = batch.counts > 0
    starts = batch.offsets[:-1][filled]
    low[filled], high[filled] = np.minimum.reduceat(coordinates, starts), np.maximum.reduceat(coordinates, starts)
    heights = 1 / np.linalg.norm(inverses, axis=1)
    bins = np.maximum(np.where(batch.pbc, heights, high - low) / cutoff, 1)
    walked = batch.pbc.any(axis=1, keepdims=True) & ~batch.pbc
    too_wide = np.prod(np.where(walked, bins**2, bins), axis=1) > _MOST_BINS
    too_far = np.any(batch.pbc & (np.maximum(-low, high) > _FARTHEST_CELL), axis=1)
    sprawling: BoolArray = too_wide | too_far
    return sprawling


def _scattered_pairs(
    positions: FloatArray, box: FloatArray, pbc: BoolArray, cutoff: float
) -> tuple[IntArray, IntArray]:
    """Find the pairs of a structure with a k-d tree of all images, which does not mind the space between atoms."""
    from scipy.spatial import KDTree

    inverse = np.linalg.inv(box)
    home = np.where(pbc, np.floor(positions @ inverse), 0)
    wrapped = positions - home @ box
    # two atoms of one cell are less than a height apart, so that images farther than this are out of reach
    reach = np.where(pbc, cutoff * np.linalg.norm(inverse, axis=0) + 1, 0).astype(np.int64)
    images = np.stack(np.meshgrid(*[np.arange(-n, n + 1) for n in reach], indexing="ij"), axis=-1).reshape(-1, 3)
    tree = KDTree(((images @ box)[:, None] + wrapped).reshape(-1, 3))
    found = KDTree(wrapped).sparse_distance_matrix(tree, cutoff, output_type="ndarray")
    found = found[np.lexsort((found["j"], found["i"]))]
    i, (image, j) = found["i"], np.divmod(found["j"], len(positions))
    shifts = images[image] + (home[i] - home[j]).astype(np.int64)
    between = positions[j] + shifts @ box - positions[i]
    proper = ((i != j) | shifts.any(axis=1)) & (np.einsum("ek,ek->e", between, between) < cutoff * cutoff)
    return np.stack([i, j], axis=1)[proper], shifts[proper]


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

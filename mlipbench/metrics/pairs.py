"""Distances between atoms to the nearest image, and how many pairs of each frame lie how far apart.

A histogram is kept per frame, so that those of any window of frames are differences of cumulative sums.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING, Final, Self

import numpy as np

from mlipbench.structures.neighbors import completed_cell

if TYPE_CHECKING:
    from mlipbench.typing import AnyArray, BoolArray, FloatArray, IntArray

LOWEST: Final = 1e-6
"""Å, lower edge of every histogram, as in MDSim: it keeps out the distance of an atom from itself."""
_CHUNK: Final = 1 << 16  # pairs at a time: a few arrays of this size stay in the cache of a core


@dataclass(frozen=True)
class Bins:
    """Bins of equal width from `LOWEST` to a limit; MDSim uses 500 up to 6 Å for g(r) and up to 10 Å for h(r).

    Attributes:
        limit: Å, upper edge of the last bin.
        n: Number of bins.

    Raises:
        ValueError: There is no bin, or the limit is not above the lower edge.
    """

    limit: float
    n: int

    def __post_init__(self) -> None:
        """Refuse what holds nothing."""
        if self.n < 1 or not LOWEST < self.limit < np.inf:
            raise ValueError(f"{self.n} bins up to {self.limit} Å hold nothing")

    @cached_property
    def edges(self) -> FloatArray:
        """Shape (n + 1,), Å."""
        return np.linspace(LOWEST, self.limit, self.n + 1)

    @cached_property
    def shells(self) -> FloatArray:
        """Shape (n,), volumes of the spherical shells, Å³."""
        return 4 / 3 * np.pi * np.diff(self.edges**3)


@dataclass(frozen=True, slots=True, eq=False)
class Lattice:
    """A periodic cell made ready for nearest images.

    Attributes:
        cell: Shape (3, 3), Å, rows are lattice vectors as short as they can be (Minkowski's reduction).
        inverse: Shape (3, 3), its inverse.
        images: Shape (n_images, 3), Å, one of each pair ±n of lattice vectors that can lie nearer to a vector than the
            origin does although its scaled coordinates lie within ±0.5; none in a right-angled cell.
    """

    cell: FloatArray
    inverse: FloatArray
    images: FloatArray

    @classmethod
    def of(cls, cell: FloatArray) -> Self:
        """Reduce a cell.

        In a reduced cell all nearest images differ from the one in scaled coordinates by -1, 0 or 1 along each vector.
        With ``d`` such an image, ``|d ± n|² = |d|² + |n|² ± 2 d·n``, so ``n`` matters only where ``2 |d·n|`` can exceed
        ``|n|²``.

        Args:
            cell: Shape (3, 3), Å, rows are lattice vectors of any shape.

        Raises:
            ValueError: The lattice vectors are not finite, or linearly dependent.
        """
        from ase.geometry import minkowski_reduce

        cell = np.asarray(cell, dtype=np.float64)
        if not np.isfinite(cell).all():
            raise ValueError("the lattice vectors are not finite")
        reduced = np.asarray(minkowski_reduce(completed_cell(cell, np.ones(3, dtype=np.bool_)))[0])
        images = np.array(list(product((-1, 0, 1), repeat=3))[14:]) @ reduced  # behind the origin; ±n count once
        reach = np.abs(images @ reduced.T).sum(axis=1)  # the largest 2 |d·n| of scaled coordinates within ±0.5
        nearer = reach > np.square(images).sum(axis=1) * (1 + 1e-12)
        return cls(reduced, np.linalg.inv(reduced), images[nearer])

    @property
    def volume(self) -> float:
        """Volume, Å³."""
        return float(abs(np.linalg.det(self.cell)))

    @property
    def unmistakable(self) -> float:
        """Half the shortest lattice vector, Å: of every shorter vector, no image is as short."""
        return float(np.linalg.norm(self.cell, axis=1).min() / 2)

    def nearest(self, vectors: FloatArray) -> FloatArray:
        """Return the shortest image of each vector.

        Args:
            vectors: Shape (..., 3), Å.

        Returns:
            Shape (..., 3), Å.
        """
        rounded = self._rounded((vectors @ self.inverse).reshape(-1, 3).T)
        if len(self.images):
            along, gain = self._gains(rounded)
            best, each = gain.argmax(axis=0), np.arange(rounded.shape[1])
            towards = np.where(gain[best, each] > 0, np.sign(along[best, each]), 0.0)
            rounded -= towards * self.images[best].T
        return np.ascontiguousarray(rounded.T).reshape(vectors.shape)

    def lengths(self, scaled: FloatArray) -> FloatArray:
        """Return the lengths of the shortest images.

        Args:
            scaled: Shape (3, n), vectors in coordinates of `cell`, by component: a pass over each is fast.

        Returns:
            Shape (n,), Å.
        """
        rounded = self._rounded(scaled)
        squared: FloatArray = np.einsum("kn,kn->n", rounded, rounded)
        if len(self.images):
            squared -= np.maximum(self._gains(rounded)[1].max(axis=0), 0.0)
        return np.sqrt(np.maximum(squared, 0.0, out=squared), out=squared)

    def _rounded(self, scaled: FloatArray) -> FloatArray:
        """Return vectors whose scaled coordinates are brought to ±0.5, shape (3, n)."""
        rounded: FloatArray = self.cell.T @ (scaled - np.rint(scaled))
        return rounded

    def _gains(self, rounded: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return d·n, and by how much the square shrinks on adding or subtracting n, shapes (n_images, n)."""
        along = self.images @ rounded
        gain = np.abs(along)
        gain *= 2
        gain -= np.square(self.images).sum(axis=1)[:, None]
        return along, gain


@dataclass(frozen=True, slots=True, eq=False)
class PairCounts:
    """How many ordered pairs of atoms lie how far apart, frame by frame.

    Attributes:
        counts: Shape (n_frames, n_bins), ordered pairs (i, j) with i among the first atoms and j among the second.
        bins: The bins.
        n_first: Number of first atoms.
        n_second: Number of second atoms.
        n_shared: Number of atoms that are both: as many pairs are an atom with itself, and never counted.
        volume: Volume of the cell, Å³; None without one.
    """

    counts: AnyArray
    bins: Bins
    n_first: int
    n_second: int
    n_shared: int
    volume: float | None

    def frames(self, start: int | None, stop: int | None, step: int | None = None) -> PairCounts:
        """Return the counts of some frames, chosen as by a slice."""
        chosen = self.counts[start:stop:step]
        return PairCounts(chosen, self.bins, self.n_first, self.n_second, self.n_shared, self.volume)


def count_pairs(
    positions: AnyArray,
    lattice: Lattice | None,
    bins: Bins,
    first: BoolArray | None = None,
    second: BoolArray | None = None,
) -> PairCounts:
    """Count the pairs of atoms of each frame by their distance, to the nearest image alone where there is a lattice.

    MDSim (``observable.ipynb``) takes the smallest of the distances to 27 images. That is the nearest image as long as
    the cell is compact and atoms stay near it; here, it is found in every cell and however far atoms have moved.
    Distances of 0 are not counted, as in MDSim, nor is anything below `LOWEST`; the last bin includes its upper edge,
    as in `numpy.histogram`.

    Args:
        positions: Shape (n_frames, n_atoms, 3), Å, wrapped or not.
        lattice: The cell of all frames; None for open boundaries.
        bins: The bins.
        first: Shape (n_atoms,), the atoms that pairs start at; None for all.
        second: Shape (n_atoms,), the atoms that pairs end at; None for the first.

    Raises:
        ValueError: Shapes do not fit, or a position is not finite.
    """
    positions = _checked(positions)
    n_frames, n_atoms, _ = positions.shape
    first = _selection(first, n_atoms)
    second = first if second is None else _selection(second, n_atoms)
    same = np.array_equal(first, second)
    i, j = (side.ravel() for side in np.meshgrid(np.flatnonzero(first), np.flatnonzero(second), indexing="ij"))
    if same:  # the distance is the same either way
        i, j = i[i < j], j[i < j]
    counts = np.zeros((n_frames, bins.n), dtype=np.int64)
    step = max(1, _CHUNK // max(1, len(i)))
    for start in range(0, n_frames, step):
        found = pair_lengths(positions[start : start + step], i, j, lattice)
        counts[start : start + step] = _histogram(found, bins)
    if same:
        counts *= 2
    volume = None if lattice is None else lattice.volume
    return PairCounts(counts, bins, int(first.sum()), int(second.sum()), int((first & second).sum()), volume)


def pair_lengths(positions: FloatArray, i: IntArray, j: IntArray, lattice: Lattice | None) -> FloatArray:
    """Return the distances of some pairs of atoms, to the nearest image where there is a lattice.

    Args:
        positions: Shape (..., n_atoms, 3), Å.
        i: Shape (n_pairs,), one atom of each pair.
        j: Shape (n_pairs,), the other atom of each pair.
        lattice: The cell; None for open boundaries.

    Returns:
        Shape (..., n_pairs), Å.
    """
    coordinates = np.moveaxis(positions if lattice is None else positions @ lattice.inverse, -1, 0)
    coordinates = np.ascontiguousarray(coordinates)
    between = coordinates.take(j, axis=-1)
    between -= coordinates.take(i, axis=-1)
    shape = between.shape[1:]
    between = between.reshape(3, -1)
    if lattice is not None:
        return lattice.lengths(between).reshape(shape)
    squared: FloatArray = np.einsum("kn,kn->n", between, between)
    return np.sqrt(squared, out=squared).reshape(shape)


def _checked(positions: AnyArray) -> FloatArray:
    positions = np.asarray(positions, dtype=np.float64)
    if positions.ndim != 3 or positions.shape[2] != 3:  # noqa: PLR2004 - frames, atoms, x y z
        raise ValueError(f"positions have shape {positions.shape}, expected (n_frames, n_atoms, 3)")
    lost = np.flatnonzero(~np.isfinite(positions).all(axis=(1, 2)))
    if lost.size:
        raise ValueError(f"frame {lost[0]} has positions that are not finite; leave out what follows a failure")
    return positions


def _selection(chosen: BoolArray | None, n_atoms: int) -> BoolArray:
    if chosen is None:
        return np.ones(n_atoms, dtype=np.bool_)
    chosen = np.asarray(chosen)
    if chosen.dtype != np.bool_ or chosen.shape != (n_atoms,):
        raise ValueError(f"a selection is {chosen.dtype} of shape {chosen.shape}, expected bool of ({n_atoms},)")
    return chosen


def _histogram(lengths: FloatArray, bins: Bins) -> IntArray:
    """Count the lengths of each row, shape (n_frames, n_pairs), as `numpy.histogram` does; shape (n_frames, n_bins)."""
    edges, last = bins.edges, bins.n - 1
    frames, pairs = np.nonzero((lengths >= edges[0]) & (lengths <= edges[-1]))
    values = lengths[frames, pairs]
    places = np.minimum(((values - edges[0]) * (bins.n / (edges[-1] - edges[0]))).astype(np.int64), last)
    places -= values < edges[places]  # rounding may miss the bin by one
    places += (values >= edges[places + 1]) & (places != last)
    n_frames = len(lengths)
    return np.bincount(frames * bins.n + places, minlength=n_frames * bins.n).reshape(n_frames, bins.n)

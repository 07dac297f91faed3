"""Structures that stand in two places: candidates by hashes of their content, which are then compared.

Two structures are the same here if they have the same atoms in the same order, the same periodicity, and every
coordinate and every lattice vector of a periodic direction equal within `TOLERANCE`. All such pairs are found, and no
others. Names, labels and cells of directions without periodicity do not matter, nor whether a file held float32 or
float64. Not the same are copies that were moved, turned, wrapped into the cell or whose atoms stand in another order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from mlipbench.structures.columnar import cut

if TYPE_CHECKING:
    from mlipbench.structures.batch import StructureBatch
    from mlipbench.structures.columnar import Split
    from mlipbench.typing import BoolArray, FloatArray, HashArray, IntArray

TOLERANCE: Final = 1e-4
"""Å; float32 holds coordinates of 1000 Å within a third of this, and text with four decimals holds any within half."""
_SEED: Final = 20
_CONSTANTS: Final = 8
_SUMS: Final = 2
_ROUNDING: Final = 1.0 + 1e-6


def content_hashes(structures: StructureBatch) -> HashArray:
    """Return hashes by which equal structures are found.

    Atomic numbers and periodicity enter as they are. Coordinates enter as two sums of all of them with random signs.
    Between equal structures such a sum differs by no more than the tolerance times its terms; the sums are cut into
    cells of twice that width, so that an equal structure has its sum in the same cell or in the nearer neighbour.

    Args:
        structures: The structures.

    Returns:
        Shape (n_structures, 4): the hash of each structure, then those an equal one may have besides, its first sum,
        its second or both in the neighbouring cell.
    """
    counts = structures.counts
    draws = np.random.PCG64(_SEED).random_raw(_CONSTANTS + int(counts.max(initial=0)))
    place = np.arange(structures.n_atoms) - np.repeat(structures.offsets[:-1], counts)
    odd = draws | np.uint64(1)  # an odd factor loses no bits
    weighted = structures.numbers.astype(np.uint64) * odd[_CONSTANTS:][place]
    running = np.concatenate([np.zeros(1, dtype=np.uint64), np.cumsum(weighted)])  # wraps, which differences undo
    kinds = running[structures.offsets[1:]] - running[structures.offsets[:-1]] + counts.astype(np.uint64) * odd[0]
    kinds += structures.pbc.astype(np.uint64) @ odd[1:4]
    width = 2.0 * TOLERANCE * _ROUNDING * (3 * counts + 9)
    scaled = _signed_sums(structures, place, draws) / width[:, None]
    cells = np.floor(scaled)
    with np.errstate(invalid="ignore"):  # sums beyond all integers share a cell; comparing tells them apart
        own = kinds + (cells.astype(np.int64).view(np.uint64) * odd[4:6]).sum(axis=1)
    steps = np.where(scaled - cells >= 0.5, 1, -1).view(np.uint64) * odd[4:6]  # noqa: PLR2004 - the middle of a cell
    return np.stack([own, own + steps[:, 0], own + steps[:, 1], own + steps.sum(axis=1)], axis=1)


def found_in(split: Split, other: Split, among: IntArray | None = None) -> BoolArray:
    """Return which structures of a split also stand in another one.

    Args:
        split: The split.
        other: The other split.
        among: Indices of the structures of `other` that count; None takes all.

    Returns:
        Shape (n_structures,).
    """
    return _search(split, other, np.arange(len(other)) if among is None else among, itself=True)


def repeated(split: Split) -> BoolArray:
    """Return which structures stand in a split more than once, shape (n_structures,)."""
    return _search(split, split, np.arange(len(split)), itself=False)


def _signed_sums(structures: StructureBatch, place: IntArray, draws: HashArray) -> FloatArray:
    """Return the sums of all coordinates and periodic lattice vectors with random signs, shape (n_structures, 2), Å."""
    sums: FloatArray = (structures.cell * structures.pbc[:, :, None]).reshape(-1, 9) @ _signs(draws[6:7], 9)[0]
    signs = _signs(draws[_CONSTANTS:], 3)
    index, n = structures.structure_index, structures.n_structures
    for column in range(_SUMS):
        terms = (structures.positions * signs[place, :, column]).sum(axis=1)
        sums[:, column] += np.bincount(index, weights=terms, minlength=n)
    return sums


def _signs(draws: HashArray, n: int) -> FloatArray:
    """Return signs from the upper bits of some draws, shape (n_draws, n, 2)."""
    bits = draws[:, None] >> np.arange(63, 63 - _SUMS * n, -1, dtype=np.uint64)
    return np.where(bits & np.uint64(1), 1.0, -1.0).reshape(-1, n, _SUMS)


def _search(split: Split, other: Split, among: IntArray, *, itself: bool) -> BoolArray:
    """Compare every structure with those of the other split that have one of its hashes, one after the other."""
    known = other.hashes[among, 0]
    order = np.argsort(known, kind="stable")
    known, candidates = known[order], among[order]
    found = np.zeros(len(split), dtype=np.bool_)
    for column in range(split.hashes.shape[1]):
        wanted = split.hashes[:, column]
        first, last = (np.searchsorted(known, wanted, side=side) for side in ("left", "right"))
        left = np.flatnonzero((first < last) & ~found)
        while left.size:
            theirs = candidates[first[left]]
            same = _equal(split, left, other, theirs)
            if not itself:
                same &= left != theirs
            found[left[same]] = True
            first[left] += 1
            left = left[~same & (first[left] < last[left])]
    return found


def _equal(split: Split, mine: IntArray, other: Split, theirs: IntArray) -> BoolArray:
    """Return whether pairs of structures are the same, shape (n_pairs,)."""
    counts = split.counts[mine]
    equal: BoolArray = counts == other.counts[theirs]
    pairs = np.flatnonzero(equal)
    offsets = np.concatenate([[0], np.cumsum(counts[pairs])])
    for start, stop in cut(offsets):
        chosen = pairs[start:stop]
        a, b = split.select(mine[chosen]), other.select(theirs[chosen])
        apart = (a.numbers != b.numbers) | ~_close(a.positions, b.positions)
        differ = np.bincount(a.structure_index, weights=apart, minlength=len(a)) > 0
        cells = _close((a.cell * a.pbc[:, :, None]).reshape(-1, 9), (b.cell * b.pbc[:, :, None]).reshape(-1, 9))
        equal[chosen] = ~differ & cells & (a.pbc == b.pbc).all(axis=1)
    return equal


def _close(a: FloatArray, b: FloatArray) -> BoolArray:
    """Return whether all numbers of a row are equal within the tolerance; what is not finite equals nothing."""
    close: BoolArray = np.logical_and.reduce(np.abs(a - b) <= TOLERANCE, axis=1)
    return close

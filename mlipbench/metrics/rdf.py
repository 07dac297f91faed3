"""Radial distribution functions, what they are compared by, and the frame at which a trajectory collapses.

The definitions are MDSim's (Fu et al., TMLR 2023; https://github.com/kyonofx/MDsim, ``observable.ipynb``), with a
corrected one beside them where theirs has a defect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from mlipbench.metrics.pairs import pair_lengths

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlipbench.metrics.pairs import Bins, Lattice, PairCounts
    from mlipbench.typing import AnyArray, FloatArray, IntArray

BROKEN: Final = 0.5
"""Å, deviation from its mean length at which MDSim calls a bond broken."""
_CHUNK: Final = 1 << 10  # windows at a time


def radial_distribution(counts: PairCounts) -> FloatArray:
    """Return g(r), which tends to 1 where atoms do not see each other.

    ``g = Σ counts / (T P/V 4/3 π (r_{k+1}³ - r_k³))`` with T frames and P ordered pairs of two different atoms. With
    atoms of two elements as first and second ones, this is g_ab(r).

    Args:
        counts: Pairs of one frame at least, in a cell.

    Returns:
        Shape (n_bins,).

    Raises:
        ValueError: There is no frame, no pair of two atoms, or no cell.
    """
    return _normalised(counts, counts.n_first * counts.n_second - counts.n_shared)


def mdsim_radial_distribution(counts: PairCounts) -> FloatArray:
    """Return g(r) as MDSim normalises it, for all atoms (LiPS) or a pair of elements (water: OO, HH and HO).

    As `radial_distribution`, with the pairs of each atom with itself counted among P, although their distance of 0 is
    in no bin: for N atoms of one kind it tends to (N - 1)/N instead of 1. MDSim computes distances in float32, so that
    single pairs fall into the next bin.

    Args:
        counts: Pairs of one frame at least, in a cell.

    Returns:
        Shape (n_bins,).

    Raises:
        ValueError: There is no frame, no atom, or no cell.
    """
    return _normalised(counts, counts.n_first * counts.n_second)


def distance_density(counts: PairCounts) -> FloatArray | None:
    """Return MDSim's h(r): the density of the distances between atoms of a molecule, which has the integral 1.

    Args:
        counts: Pairs, usually without a cell.

    Returns:
        Shape (n_bins,), 1/Å, as `numpy.histogram` with ``density=True``; None where no pair is in any bin.
    """
    total = counts.counts.sum(axis=0)
    pairs = int(total.sum())
    return total / (pairs * np.diff(counts.bins.edges)) if pairs else None


def curve_mae(first: FloatArray, second: FloatArray, bins: Bins) -> float:
    """Return MDSim's error of a curve: its mean absolute difference times the limit of the bins, in effect ∫|Δ| dr.

    Args:
        first: Shape (n_bins,).
        second: Shape (n_bins,).
        bins: The bins of both.

    Returns:
        Å for g(r), a pure number for h(r).

    Raises:
        ValueError: Shapes do not fit.
    """
    _require_bins(bins, first, second)
    return float(np.abs(first - second).mean() * bins.limit)


def wasserstein(first: FloatArray, second: FloatArray, bins: Bins) -> float | None:
    """Return the Wasserstein-1 distance of two curves as distributions: how far pairs must move to make one the other.

    ``W1 = ∫ |F - G| dr`` with the cumulative distributions F and G of the curves divided by their integrals (Vallender,
    Theory of Probability and Its Applications 18 (1974) 784), each bin at its centre. Unlike `curve_mae`, it grows
    with the shift of a peak beyond the peak's width.

    Args:
        first: Shape (n_bins,), not negative.
        second: Shape (n_bins,), not negative.
        bins: The bins of both.

    Returns:
        Å; None where a curve is 0 everywhere.

    Raises:
        ValueError: Shapes do not fit.
    """
    from scipy.stats import wasserstein_distance

    _require_bins(bins, first, second)
    if not (first.any() and second.any()):
        return None
    centres = (bins.edges[:-1] + bins.edges[1:]) / 2
    return float(wasserstein_distance(centres, centres, first, second))


def window_collapse(
    counts: Sequence[PairCounts], references: Sequence[FloatArray], length: int, threshold: float
) -> int | None:
    """Return the frame at which g(r) has collapsed, by MDSim's windows.

    It is the first i = 1, 2, ... T - length - 1 for which the `curve_mae` of frames i to i + length - 1, with g(r) by
    `mdsim_radial_distribution`, exceeds the threshold in any of the pair types. As time of stability MDSim reports
    (i - 1) times the interval between frames, with i = T where nothing collapses. LiPS: all atoms, 80 frames, 1.0 Å;
    water: OO, HH and HO, 10 frames, 3.0 Å.

    Args:
        counts: Pairs of the same T frames, for each pair type.
        references: The reference curve of each, by `mdsim_radial_distribution`, shape (n_bins,).
        length: Frames in a window.
        threshold: Å.

    Returns:
        The frame, or None where there is none.

    Raises:
        ValueError: The length is not positive, or frames, bins and curves do not fit.
    """
    n_frames = {len(each.counts) for each in counts}
    if len(n_frames) != 1 or len(references) != len(counts):
        raise ValueError(f"{len(counts)} pair types with {sorted(n_frames)} frames, {len(references)} references")
    if length < 1:
        raise ValueError(f"a window of {length} frames holds nothing")
    last = n_frames.pop() - length
    for start in range(1, last, _CHUNK):
        stop = min(start + _CHUNK, last)
        errors = [_window_errors(*each, length, slice(start, stop)) for each in zip(counts, references, strict=True)]
        collapsed = np.flatnonzero(np.max(errors, axis=0) > threshold)
        if collapsed.size:
            return start + int(collapsed[0])
    return None


def find_bonds(numbers: IntArray, positions: FloatArray, cell: FloatArray | None = None) -> IntArray:
    """Return the bonds of one frame as MDSim finds them, by ASE's neighbour list with natural cutoffs.

    With the skin of 0.3 Å an atom that the list has by default, two atoms are bonded if they are closer than the sum of
    their covalent radii and 0.6 Å.

    Args:
        numbers: Shape (n_atoms,), atomic numbers.
        positions: Shape (n_atoms, 3), Å.
        cell: Shape (3, 3), Å; None for open boundaries.

    Returns:
        Shape (n_bonds, 2), two different atoms each, every bond once.
    """
    from ase import Atoms
    from ase.neighborlist import NeighborList, natural_cutoffs

    atoms = Atoms(numbers, positions, cell=cell, pbc=cell is not None)
    neighbors = NeighborList(natural_cutoffs(atoms), self_interaction=False)
    neighbors.update(atoms)
    i, j = neighbors.get_connectivity_matrix().nonzero()
    bonds = np.unique(np.sort(np.stack([i, j], axis=1).astype(np.int64), axis=1), axis=0)
    proper: IntArray = bonds[bonds[:, 0] != bonds[:, 1]]
    return proper


def mean_bond_lengths(positions: AnyArray, bonds: IntArray, lattice: Lattice | None = None) -> FloatArray:
    """Return the mean lengths of bonds over a trajectory; MDSim's is the whole reference trajectory.

    Args:
        positions: Shape (n_frames, n_atoms, 3), Å.
        bonds: Shape (n_bonds, 2), atoms.
        lattice: The cell; None for open boundaries.

    Returns:
        Shape (n_bonds,), Å.

    Raises:
        ValueError: There is no frame.
    """
    if not len(positions):
        raise ValueError("a mean over no frames")
    parts = (positions[start : start + _CHUNK] for start in range(0, len(positions), _CHUNK))
    sums: FloatArray = np.sum([_bond_lengths(part, bonds, lattice).sum(axis=0) for part in parts], axis=0)
    return sums / len(positions)


def largest_deviations(
    positions: AnyArray, bonds: IntArray, means: FloatArray, lattice: Lattice | None = None
) -> FloatArray:
    """Return by how much the bond that deviates most from its mean length does so, in each frame or replica.

    Args:
        positions: Shape (n, n_atoms, 3), Å.
        bonds: Shape (n_bonds, 2), atoms.
        means: Shape (n_bonds,), Å.
        lattice: The cell; None for open boundaries.

    Returns:
        Shape (n,), Å; infinite where a length is not a number, 0 without bonds.
    """
    deviations = np.abs(_bond_lengths(positions, bonds, lattice) - means)
    largest: FloatArray = np.where(np.isnan(deviations), np.inf, deviations).max(axis=1, initial=0.0)
    return largest


def bond_collapse(deviations: FloatArray, threshold: float = BROKEN) -> int | None:
    """Return the frame at which a molecule has collapsed, by MDSim's bookkeeping.

    It is the first i = 1, 2, ... T - 1 for which a bond of frame i - 1 deviates by more than the threshold; the last
    frame is not looked at. MDSim reports (i - 1) times the interval between frames, with i = T where nothing breaks.

    Args:
        deviations: Shape (T,), Å, by `largest_deviations`.
        threshold: Å.

    Returns:
        The frame, or None where there is none.
    """
    broken = np.flatnonzero(deviations[:-1] > threshold)
    return int(broken[0]) + 1 if broken.size else None


def _normalised(counts: PairCounts, pairs: int) -> FloatArray:
    if counts.volume is None:
        raise ValueError("g(r) needs the volume of a cell")
    n_frames = len(counts.counts)
    if n_frames == 0 or pairs == 0:
        raise ValueError(f"g(r) of {n_frames} frames with {pairs} pairs")
    curve: FloatArray = counts.counts.sum(axis=0) / (n_frames * pairs / counts.volume * counts.bins.shells)
    return curve


def _window_errors(counts: PairCounts, reference: FloatArray, length: int, starts: slice) -> FloatArray:
    """Return the errors of the windows that start at some frames, shape (n_windows,)."""
    _require_bins(counts.bins, reference)
    if counts.volume is None or not counts.n_first * counts.n_second:
        raise ValueError("g(r) needs atoms and the volume of a cell")
    spanned = counts.counts[starts.start : starts.stop + length - 1]
    totals = np.cumsum(np.concatenate([np.zeros((1, counts.bins.n), dtype=np.int64), spanned]), axis=0)
    curves = (totals[length:] - totals[:-length]) * counts.volume
    curves /= length * counts.n_first * counts.n_second * counts.bins.shells
    errors: FloatArray = np.abs(curves - reference).mean(axis=1) * counts.bins.limit
    return errors


def _bond_lengths(positions: AnyArray, bonds: IntArray, lattice: Lattice | None) -> FloatArray:
    return pair_lengths(np.asarray(positions, dtype=np.float64), bonds[:, 0], bonds[:, 1], lattice)


def _require_bins(bins: Bins, *curves: FloatArray) -> None:
    for curve in curves:
        if curve.shape != (bins.n,):
            raise ValueError(f"a curve has shape {curve.shape}, expected ({bins.n},)")

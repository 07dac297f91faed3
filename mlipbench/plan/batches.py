"""Cutting a split into batches, once, in the plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from mlipbench.structures.neighbors import completed_cell

if TYPE_CHECKING:
    from mlipbench.budget import BatchBudget
    from mlipbench.structures import StructureBatch
    from mlipbench.typing import BoolArray, FloatArray, IntArray

MIN_VOLUME: Final = 1e-6  # Å³; below it a lattice vector is missing
MIN_LENGTH: Final = 1e-6  # Å


def cut_batches(cost: IntArray | FloatArray, limit: float) -> IntArray:
    """Cut structures, in their order, into the fewest batches whose summed cost stays within `limit`.

    A structure that costs more than the limit alone is a batch of its own.

    Args:
        cost: Shape (n_structures,), cost of each structure, not negative.
        limit: Largest cost of a batch.

    Returns:
        Shape (n_batches + 1,), batch ``b`` holds structures ``bounds[b]:bounds[b + 1]``.
    """
    ends = np.cumsum(cost, dtype=np.float64)
    bounds = [0]
    spent = 0.0
    while bounds[-1] < len(ends):
        stop = int(np.searchsorted(ends, spent + limit, side="right"))
        bounds.append(max(stop, bounds[-1] + 1))
        spent = ends[bounds[-1] - 1]
    return np.asarray(bounds, dtype=np.int64)


def batch_cost(
    budget: BatchBudget, counts: IntArray, density: FloatArray, cutoff: float | None
) -> tuple[IntArray, int]:
    """Return the cost of each structure under a budget, and the budget's limit.

    Neighbours are estimated as those of a uniform density, ``n (n_neighbours)`` with
    ``n_neighbours = density 4/3 pi cutoff**3``; exact counts would take longer than many a model.

    Args:
        budget: The budget.
        counts: Shape (n_structures,), atoms of each structure.
        density: Shape (n_structures,), atoms per Å³ in the space that atoms occupy.
        cutoff: Å; needed for a budget of edges.

    Raises:
        ValueError: The budget counts edges and the model has no cutoff.
    """
    if budget.structures is not None:
        return np.ones_like(counts), budget.structures
    if budget.atoms is not None:
        return counts, budget.atoms
    if cutoff is None or budget.edges is None:
        raise ValueError("a budget of edges needs the model's cutoff")
    neighbors = density * (4 / 3) * np.pi * cutoff**3
    return np.ceil(counts * neighbors).astype(np.int64), budget.edges


def occupied_density(structures: StructureBatch) -> FloatArray:
    """Return the atoms per Å³ of the space that atoms occupy, vacuum left out.

    Along each lattice vector the space ends 1 Å beyond the outermost atoms, or fills the cell where the structure is
    periodic along it and they do. Where a lattice vector is missing it ends 1 Å beyond the outermost atoms as well.

    Args:
        structures: Structures with at least one atom each.

    Returns:
        Shape (n_structures,), 1/Å³.
    """
    cell, pbc = _full_cells(structures)
    owner = structures.structure_index
    scaled = np.einsum("ni,nij->nj", structures.positions, np.linalg.inv(cell)[owner])
    starts = structures.offsets[:-1]
    extent = np.maximum.reduceat(scaled, starts) - np.minimum.reduceat(scaled, starts)
    volume = np.abs(np.linalg.det(cell))
    margin = 2.0 * np.linalg.norm(np.linalg.inv(cell), axis=1)  # 1 Å on either side, in scaled coordinates
    share = np.where(pbc, np.minimum(extent + margin, 1.0), extent + margin)
    density: FloatArray = structures.counts / (volume * share.prod(axis=1))
    return density


def _full_cells(structures: StructureBatch) -> tuple[FloatArray, BoolArray]:
    """Return cells of rank three, and along which of their vectors the structures are periodic.

    A missing lattice vector is replaced by one of 1 Å across the others.
    """
    cell = np.array(structures.cell)
    pbc = np.array(structures.pbc)
    for i in np.flatnonzero(np.abs(np.linalg.det(cell)) <= MIN_VOLUME):
        lengths = np.linalg.norm(cell[i], axis=1)
        missing = ~pbc[i] | (lengths <= MIN_LENGTH)
        try:
            cell[i], pbc[i] = completed_cell(cell[i], ~missing), ~missing
        except ValueError:  # dependent vectors: the model will say so
            cell[i], pbc[i] = np.eye(3), False
    return cell, pbc

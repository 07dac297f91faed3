"""Structures as the packages of the fairchem family take them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlipbench.structures import StructureBatch


def wrapped(batch: StructureBatch) -> StructureBatch:
    """Return structures with complete cells, whose atoms are moved into them along periodic directions.

    Args:
        batch: The structures.
    """
    from ase.cell import Cell
    from ase.geometry import wrap_positions

    positions, cells = batch.positions.copy(), batch.cell.copy()
    for s in range(batch.n_structures):
        atoms = slice(batch.offsets[s], batch.offsets[s + 1])
        cells[s] = Cell(batch.cell[s]).complete().array
        positions[atoms] = wrap_positions(positions[atoms], cells[s], pbc=batch.pbc[s], eps=0)
    return replace(batch, positions=positions, cell=cells)

"""Boxes for packages that take every structure for periodic."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from mlipbench.structures.neighbors import completed_cell

if TYPE_CHECKING:
    from mlipbench.structures import StructureBatch

_MARGIN: Final = 1.0  # Å, by which images of molecules are farther apart than the cutoff


def boxed(batch: StructureBatch, cutoff: float) -> StructureBatch:
    """Return structures for a package that takes all for periodic: images in other directions are out of reach.

    Args:
        batch: The structures.
        cutoff: Å.
    """
    cells = np.array(batch.cell)
    for s in np.flatnonzero(~batch.pbc.all(axis=1)):
        periodic = batch.pbc[s].astype(bool)
        cells[s] = completed_cell(batch.cell[s], periodic)
        positions = batch.positions[batch.offsets[s] : batch.offsets[s + 1]]
        for direction in np.flatnonzero(~periodic):  # a unit vector across the periodic ones
            extent = np.ptp(positions @ cells[s, direction])
            cells[s, direction] *= extent + cutoff + _MARGIN
    return replace(batch, cell=cells, pbc=np.ones_like(batch.pbc))

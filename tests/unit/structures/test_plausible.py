"""What is physically impossible, by covalent radii of hydrogen 0.31 Å, copper 1.32 Å and oxygen 0.66 Å."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from mlipbench.structures import StructureBatch
from mlipbench.structures.plausible import Origin, implausible


def dimer(distance, symbols="H2"):
    return Atoms(symbols, [[0, 0, 0], [distance, 0, 0]])


@pytest.mark.parametrize(
    ("atoms", "impossible"),
    [
        (dimer(0.30), True),
        (dimer(0.32), False),
        (dimer(0.98, "CuO"), True),
        (dimer(1.00, "CuO"), False),
        (Atoms("H2", [[0, 0, 0], [0, 0, 9.8]], cell=[10, 10, 10], pbc=True), True),  # across the border
        (Atoms("H2", [[0, 0, 0], [np.nan, 0, 0]]), True),
        (Atoms("H2", [[0, 0, 0], [1e12, 0, 0]]), True),
        (Atoms("H", [[0, 0, 0]]), False),
    ],
)
def test_pairs_closer_than_half_their_covalent_distance(atoms, impossible):
    assert bool(implausible(StructureBatch.from_atoms([dimer(0.7), atoms])).get(1)) == impossible


def test_three_times_the_edges_of_the_start():
    """A crystal squeezed to half its length has eight times the atoms within a cutoff."""
    start = StructureBatch.from_atoms([bulk("Cu", "fcc", a=6.0, cubic=True)] * 2)
    cell = start.cell.copy()
    cell[1] *= 0.6
    positions = start.positions.copy()
    positions[4:] *= 0.6
    now = StructureBatch(start.numbers, positions, cell, start.pbc, start.offsets)
    assert implausible(start, Origin.of(start, 6.0)) == {}
    found = implausible(now, Origin.of(start, 6.0))
    assert list(found) == [1]
    assert "more than three times" in found[1]

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc100, molecule

from mlipbench.structures import StructureBatch
from mlipbench.structures.kinds import Kind, kind_of, open_direction


def batch(atoms):
    return StructureBatch.from_atoms([atoms])


@pytest.mark.parametrize(
    ("atoms", "kind"),
    [
        (Atoms("H"), Kind.ATOM),
        (molecule("N2"), Kind.DIMER),
        (molecule("CH4"), Kind.MOLECULE),
        (bulk("Cu"), Kind.CRYSTAL),
        (bulk("Cu", cubic=True), Kind.CRYSTAL),
        (fcc100("Cu", (2, 2, 3), vacuum=6.0, periodic=True), Kind.SLAB),
        (fcc100("Cu", (2, 2, 3), vacuum=1.0), Kind.SLAB),
        (fcc100("Cu", (2, 2, 3), vacuum=2.0, periodic=True), Kind.CRYSTAL),
        (Atoms("H", cell=[3, 3, 3], pbc=True), Kind.CRYSTAL),
        (Atoms("H", cell=[3, 9, 3], pbc=True), Kind.SLAB),
    ],
)
def test_kinds(atoms, kind):
    assert kind_of(batch(atoms)) is kind


def test_the_open_direction_has_most_vacuum():
    slab = fcc100("Cu", (2, 2, 3), vacuum=6.0, periodic=True)
    assert open_direction(batch(slab)) == 2
    turned = slab[:]
    turned.set_cell(slab.cell[[2, 0, 1]])
    assert open_direction(batch(turned)) == 0
    assert open_direction(batch(bulk("Cu"))) is None
    assert open_direction(batch(molecule("CH4"))) == 2


def test_a_slab_across_the_border_of_its_cell_is_one():
    slab = fcc100("Cu", (2, 2, 3), vacuum=6.0, periodic=True)
    slab.positions[:, 2] -= slab.positions[:, 2].mean()
    slab.wrap()
    assert kind_of(batch(slab)) is Kind.SLAB


def test_a_skew_cell_is_measured_along_its_normal():
    # the third vector is 12 Å long, but rises by 5 Å only
    skew = Atoms("H", cell=[[20, 0, 0], [0, 3, 0], [np.sqrt(144 - 25), 0, 5]], pbc=True)
    assert open_direction(batch(skew)) == 0

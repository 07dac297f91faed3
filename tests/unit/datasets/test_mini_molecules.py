"""Geometries that the scripts of mini-ethanol and mini-isomers start from."""

from __future__ import annotations

import pytest
from ase.build import molecule

from mlipbench.datasets.connectivity import molecule_names
from mlipbench.datasets.mini.ethanol.generate import ETHANOL
from mlipbench.datasets.mini.isomers.generate import TRAINING, UNSEEN
from mlipbench.datasets.mini.molecules import rough_geometry
from mlipbench.structures import StructureBatch


def names(*molecules):
    return molecule_names(StructureBatch.from_atoms(list(molecules))).tolist()


def test_bonds_of_hydrogens_follow_those_of_heavy_atoms():
    assert ETHANOL.symbols == "CCOHHHHHH"
    assert ETHANOL.all_bonds == [(0, 1), (1, 2), (0, 3), (0, 4), (0, 5), (1, 6), (1, 7), (2, 8)]


@pytest.mark.parametrize(("made", "known"), [(ETHANOL, "CH3CH2OH"), (TRAINING[0], "CH3COCH3")])
def test_a_rough_geometry_has_the_bonds_of_the_molecule(made, known):
    assert len(set(names(rough_geometry(made, 0), molecule(known)))) == 1


def test_rough_geometries_of_isomers_are_different_molecules():
    found = names(*(rough_geometry(isomer, seed) for seed, isomer in enumerate((*TRAINING, *UNSEEN))))
    assert {name.split("-")[0] for name in found} == {"C3H6O"}
    assert len(set(found)) == 9

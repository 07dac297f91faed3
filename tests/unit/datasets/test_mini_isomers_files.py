"""The packed files of mini-isomers: layout, units, isomers, ISO17's rules."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase.build import molecule
from ase.db import connect

import mlipbench
from mlipbench.datasets.connectivity import molecule_names
from mlipbench.structures import StructureBatch

DATA = Path(mlipbench.__file__).parent / "datasets" / "mini" / "isomers"
FILES = ("reference", "test_within", "test_other")
TRAINING, UNSEEN = 6, 3
REFERENCE, LATER, OTHER = 32, 8, 40  # frames of an isomer in each file
# eV: nonrelativistic energies of the atoms (C -37.845, H -0.5, O -75.067 Ha; Chakravorty et al., Phys. Rev. A 47, 3649
# (1993)) and the energy of atomisation of acetone, 977 kcal/mol (CCCBDB of NIST)
EXACT = 27.2114 * (3 * -37.845 + 6 * -0.5 - 75.067) - 977 * 0.0433641


@pytest.fixture(scope="module")
def rows():
    found = {}
    for name in FILES:
        with connect(DATA / f"{name}.db", use_lock_file=False) as database:
            found[name] = list(database.select())
    return found


@pytest.fixture(scope="module")
def names(rows):
    frames = {name: [row.toatoms() for row in rows[name]] for name in FILES}
    return {name: molecule_names(StructureBatch.from_atoms(found)).tolist() for name, found in frames.items()}


def numbers(name):
    return [int(line) for line in (DATA / f"{name}_ids.txt").read_text().splitlines()]


def test_layout_is_that_of_iso17(rows):
    for found in rows.values():
        assert [row.id for row in found] == list(range(1, len(found) + 1))
        for row in found:
            assert set(row.key_value_pairs) == {"total_energy"}
            assert row.data["atomic_forces"].shape == (10, 3)
            assert not row.pbc.any()


def test_rows_are_counted_from_one_and_each_is_in_one_list():
    assert sorted(numbers("train") + numbers("validation")) == list(range(1, TRAINING * REFERENCE + 1))


def test_validation_has_frames_of_every_training_isomer(names):
    assert len({names["reference"][row - 1] for row in numbers("validation")}) == TRAINING


def test_all_molecules_are_isomers_and_different_ones(names):
    assert {name.split("-")[0] for found in names.values() for name in found} == {"C3H6O"}
    assert len(set(names["reference"])) == TRAINING
    assert len(set(names["test_other"])) == UNSEEN


def test_within_holds_the_training_isomers_and_other_holds_none_of_them(names):
    assert set(names["test_within"]) == set(names["reference"])
    assert not set(names["test_other"]) & set(names["reference"])


def test_first_isomer_is_acetone(names):
    assert names["reference"][0] == molecule_names(StructureBatch.from_atoms([molecule("CH3COCH3")]))[0]


def test_isomers_stand_one_after_the_other(names):
    found = names["reference"]
    assert found[::REFERENCE] == list(dict.fromkeys(found))
    for name, length in (("reference", REFERENCE), ("test_within", LATER), ("test_other", OTHER)):
        assert {names[name].count(isomer) for isomer in names[name]} == {length}


def test_energies_are_total_energies_in_ev(rows):
    for found in rows.values():
        # a double-zeta basis misses 0.2 % of the total energy; kcal/mol or Hartree would be off by a factor
        assert [row.total_energy for row in found] == pytest.approx([EXACT] * len(found), rel=0.005)


def test_energies_of_isomers_differ_as_their_heats_of_formation(rows):
    # acetone -217 kJ/mol, methyloxirane -95 kJ/mol (NIST WebBook); functional, basis and 500 K leave some tenths
    energies = [row.total_energy for row in rows["reference"]]
    acetone, methyloxirane = np.mean(energies[:REFERENCE]), np.mean(energies[4 * REFERENCE : 5 * REFERENCE])
    assert methyloxirane - acetone == pytest.approx(122 / 96.485, abs=0.4)


def test_net_force_and_torque_vanish(rows):
    for row in (row for found in rows.values() for row in found):
        forces = row.data["atomic_forces"]
        assert np.abs(forces.sum(axis=0)).max() < 1e-5
        assert np.abs(np.cross(row.positions, forces).sum(axis=0)).max() < 0.02  # the grid has a direction


def test_files_name_no_user_and_no_time(rows):
    for row in (row for found in rows.values() for row in found):
        assert (row.user, row.ctime, row.mtime) == ("", 0, 0)

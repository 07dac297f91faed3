"""The potential of mini-lips against its formula, finite differences and its own cutoff."""

from __future__ import annotations

import math

import numpy as np
import pytest
from ase import Atoms
from ase.build import make_supercell

from mlipbench.datasets.mini.lips.generate import start
from mlipbench.datasets.mini.lips.potential import CUTOFF, BornMayer

STEP = 1e-4  # Å
COULOMB = 14.399645  # eV Å, CODATA


def energy(atoms):
    atoms.calc = BornMayer()
    return atoms.get_potential_energy()


def plain(r, charges, repulsion):
    return COULOMB * charges * math.erfc(0.2 * r) / r + repulsion * math.exp(-r / 0.3)


@pytest.mark.parametrize(
    ("symbols", "charges", "repulsion"),
    [
        ("LiS", -0.72, 800.0),
        ("PS", -3.6, 2000.0),
        ("S2", 1.44, 15000.0),
        ("Li2", 0.36, 0.0),
        ("LiP", 1.8, 0.0),
        ("P2", 9.0, 0.0),
    ],
)
def test_a_pair_has_the_energy_of_the_formula(symbols, charges, repulsion):
    r, step = 2.5, 1e-5
    last = plain(6.0, charges, repulsion)
    slope = (plain(6.0 + step, charges, repulsion) - plain(6.0 - step, charges, repulsion)) / (2 * step)
    expected = plain(r, charges, repulsion) - last - (r - 6.0) * slope
    assert energy(Atoms(symbols, [[0, 0, 0], [0, 0, r]])) == pytest.approx(expected, abs=1e-6)


def test_energy_and_forces_reach_zero_at_the_cutoff():
    pair = Atoms("PS", [[0, 0, 0], [0, 0, CUTOFF - 1e-3]])
    assert abs(energy(pair)) < 1e-5
    assert np.abs(pair.get_forces()).max() < 1e-2
    pair.positions[1, 2] = CUTOFF + 1e-3
    assert energy(pair) == 0.0


@pytest.fixture
def shaken():
    atoms = start()
    atoms.rattle(0.1, seed=0)
    atoms.calc = BornMayer()
    return atoms


def test_forces_are_central_differences_of_the_energy(shaken):
    forces = shaken.get_forces()
    for atom, axis in ((0, 0), (27, 1), (50, 2)):
        ends = []
        for sign in (1, -1):
            moved = shaken.copy()
            moved.positions[atom, axis] += sign * STEP
            ends.append(energy(moved))
        assert forces[atom, axis] == pytest.approx((ends[1] - ends[0]) / (2 * STEP), abs=1e-5)


def test_stress_is_the_derivative_by_strain(shaken):
    stress = shaken.get_stress()
    for voigt, (i, j) in enumerate([(0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)]):
        ends = []
        for sign in (1, -1):
            strain = np.eye(3)
            strain[i, j] += sign * STEP / 2
            strain[j, i] += sign * STEP / 2
            moved = shaken.copy()
            moved.set_cell(shaken.cell @ strain, scale_atoms=True)
            ends.append(energy(moved))
        numeric = (ends[0] - ends[1]) / (2 * STEP * shaken.get_volume())
        assert stress[voigt] == pytest.approx(numeric, abs=1e-6)


def test_energy_is_the_same_in_a_larger_cell(shaken):
    doubled = make_supercell(shaken, np.diag([2, 1, 1]))
    assert energy(doubled) == pytest.approx(2 * shaken.get_potential_energy())


def test_net_force_vanishes(shaken):
    assert np.abs(shaken.get_forces().sum(axis=0)).max() < 1e-9


def test_another_element_is_refused():
    with pytest.raises(ValueError, match="Na"):
        energy(Atoms("NaS", [[0, 0, 0], [0, 0, 2.5]]))

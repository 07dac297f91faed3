"""The potentials of mini-water and mini-methane against their formulas, finite differences and their own cutoff."""

from __future__ import annotations

import math

import numpy as np
import pytest
from ase import Atoms
from ase.build import make_supercell

from mlipbench.datasets.mini.methane.generate import start as methane_start
from mlipbench.datasets.mini.methane.potential import FlexibleMethane
from mlipbench.datasets.mini.water.generate import start as water_start
from mlipbench.datasets.mini.water.potential import FlexibleWater

STEP = 1e-4  # Å
KCAL = 0.0433641153  # eV
COULOMB = 14.399645  # eV Å, CODATA
CUTOFF = 6.0  # Å
KINDS = {"water": (water_start, FlexibleWater), "methane": (methane_start, FlexibleMethane)}


def energy(atoms, kind=FlexibleWater):
    atoms.calc = kind()
    return atoms.get_potential_energy()


def water(length=1.012, degrees=113.24):
    half = math.radians(degrees) / 2
    arm = np.array([math.sin(half), math.cos(half), 0.0]) * length
    return Atoms("OHH", [[0, 0, 0], arm, arm * [-1, 1, 1]])


def methane(length=1.09):
    corners = np.array([[0, 0, 0], [1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    return Atoms("CHHHH", corners / math.sqrt(3) * length)


def test_bonds_and_angles_of_water_are_those_of_spc_fw():
    assert energy(water()) == pytest.approx(0.0, abs=1e-12)
    assert energy(water(length=1.112)) == pytest.approx(2 * 1059.162 / 2 * 0.1**2 * KCAL, rel=1e-6)
    assert energy(water(degrees=113.24 + 10)) == pytest.approx(75.90 / 2 * math.radians(10) ** 2 * KCAL, rel=1e-6)


def test_bonds_and_angles_of_methane_are_those_of_opls():
    angles = 6 * 33.0 * (math.acos(-1 / 3) - math.radians(107.8)) ** 2
    assert energy(methane(), FlexibleMethane) == pytest.approx(angles * KCAL, rel=1e-6)
    bonds = 4 * 340.0 * 0.1**2
    assert energy(methane(1.19), FlexibleMethane) == pytest.approx((angles + bonds) * KCAL, rel=1e-6)


def plain(r, charges, epsilon, sigma):
    lennard_jones = 4 * epsilon * KCAL * ((sigma / r) ** 12 - (sigma / r) ** 6)
    return COULOMB * charges * math.erfc(0.25 * r) / r + lennard_jones


def shifted(r, *parameters):
    if r >= CUTOFF:
        return 0.0
    step = 1e-5
    slope = (plain(CUTOFF + step, *parameters) - plain(CUTOFF - step, *parameters)) / (2 * step)
    return plain(r, *parameters) - plain(CUTOFF, *parameters) - (r - CUTOFF) * slope


WATER_PAIRS = {"OO": (0.6724, 0.1554253, 3.165492), "HO": (-0.3362, 0.0, 1.0), "HH": (0.1681, 0.0, 1.0)}
METHANE_PAIRS = {
    "CC": (0.0576, 0.066, 3.5),
    "CH": (-0.0144, math.sqrt(0.066 * 0.030), math.sqrt(3.5 * 2.5)),
    "HH": (0.0036, 0.030, 2.5),
}


@pytest.mark.parametrize(
    ("single", "kind", "pairs"), [(water(), FlexibleWater, WATER_PAIRS), (methane(), FlexibleMethane, METHANE_PAIRS)]
)
@pytest.mark.parametrize("apart", [3.2, 5.1])
def test_two_molecules_have_the_energy_of_their_pairs(single, kind, pairs, apart):
    other = single.copy()
    other.translate([0.3, 0.2, apart])
    expected = 2 * energy(single.copy(), kind)
    for one in single:
        for two in other:
            expected += shifted(math.dist(one.position, two.position), *pairs["".join(sorted(one.symbol + two.symbol))])
    assert energy(single + other, kind) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", KINDS)
def test_energy_and_forces_are_smooth_where_pairs_reach_the_cutoff(name):
    start, kind = KINDS[name]
    single = start()[:5] if name == "methane" else start()[:3]
    single.pbc = False
    other = single.copy()
    energies, forces = [], []
    for apart in np.arange(4.0, 9.0, 0.005):
        other.positions = single.positions + np.array([0.0, 0.0, apart])
        both = single + other
        energies.append(energy(both, kind))
        forces.append(both.get_forces()[: len(single), 2].sum())
    # a force that jumps, or is not the slope of the energy, would show in the sum of trapezoids
    work = np.concatenate([[0.0], np.cumsum((np.array(forces)[1:] + np.array(forces)[:-1]) / 2 * 0.005)])
    np.testing.assert_allclose(np.array(energies) - energies[0], work, atol=2e-6)
    assert np.abs(np.diff(forces)).max() < 0.01
    assert energies[-1] == pytest.approx(2 * energy(single, kind), abs=1e-12)


@pytest.fixture(params=KINDS)
def shaken(request):
    start, kind = KINDS[request.param]
    atoms = start()
    atoms.rattle(0.05, seed=0)
    atoms.calc = kind()
    return atoms


def test_forces_are_central_differences_of_the_energy(shaken):
    forces = shaken.get_forces()
    for atom, axis in ((0, 0), (6, 1), (32, 2)):
        ends = []
        for sign in (1, -1):
            moved = shaken.copy()
            moved.positions[atom, axis] += sign * STEP
            ends.append(energy(moved, type(shaken.calc)))
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
            ends.append(energy(moved, type(shaken.calc)))
        numeric = (ends[0] - ends[1]) / (2 * STEP * shaken.get_volume())
        assert stress[voigt] == pytest.approx(numeric, abs=1e-7)


def test_energy_is_the_same_in_a_larger_cell_and_wrapped(shaken):
    expected, kind = shaken.get_potential_energy(), type(shaken.calc)
    assert energy(make_supercell(shaken, np.diag([2, 1, 1])), kind) == pytest.approx(2 * expected)
    moved = shaken.copy()
    moved.positions += [1.3, 2.7, -4.1]
    moved.wrap()
    assert energy(moved, kind) == pytest.approx(expected)


def test_a_molecule_meets_its_own_images():
    alone = water()
    alone.cell, alone.pbc = [4.5, 4.5, 4.5], True
    assert energy(make_supercell(alone, np.diag([2, 2, 1]))) == pytest.approx(4 * energy(alone))
    assert abs(energy(alone)) > 1e-3


def test_net_force_vanishes(shaken):
    assert np.abs(shaken.get_forces().sum(axis=0)).max() < 1e-9


def test_other_atoms_are_refused():
    with pytest.raises(ValueError, match="molecules whose atoms are O, H, H"):
        energy(Atoms("HOH", [[0, 0, 0], [0, 0, 1], [0, 1, 1]]))
    with pytest.raises(ValueError, match="molecules whose atoms are C, H, H, H, H"):
        energy(Atoms("CH3", methane().positions[:4]), FlexibleMethane)

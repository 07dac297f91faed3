"""The packed file of mini-ethanol: layout, units, time order, labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

import mlipbench
from mlipbench.datasets.connectivity import molecule_names
from mlipbench.datasets.mini.molecules import Sampling
from mlipbench.structures import StructureBatch

FILE = Path(mlipbench.__file__).parent / "datasets" / "mini" / "ethanol" / "ethanol.npz"
FRAMES = 240
KT = 500 * 0.0019872041  # kcal/mol, at the temperature of the dynamics
# kcal/mol: nonrelativistic energies of the atoms (C -37.845, H -0.5, O -75.067 Ha; Chakravorty et al., Phys. Rev. A 47,
# 3649 (1993)) and the energy of atomisation, 810 kcal/mol (CCCBDB of NIST)
EXACT = 627.5095 * (2 * -37.845 + 6 * -0.5 - 75.067) - 810


@pytest.fixture(scope="module")
def data():
    with np.load(FILE, allow_pickle=False) as archive:
        return dict(archive)


def test_layout_is_that_of_md17(data):
    assert set(data) == {"z", "R", "E", "F"}
    assert data["z"].tolist() == [6, 6, 8, 1, 1, 1, 1, 1, 1]
    assert data["E"].shape == (FRAMES, 1)
    assert data["R"].shape == data["F"].shape == (FRAMES, 9, 3)


def test_energies_are_total_energies_in_kcal_per_mol(data):
    # a double-zeta basis misses 0.2 % of the total energy; eV or Hartree would be off by a factor
    assert data["E"] == pytest.approx(EXACT, rel=0.005)


def test_energies_spread_as_those_of_oscillators_at_500_kelvin(data):
    # the potential energy of n classical oscillators has the standard deviation kT sqrt(n / 2)
    expected = KT * np.sqrt((3 * 9 - 6) / 2)
    assert 0.6 * expected < data["E"].std() < 1.7 * expected


def force_of_hydrogen(wavenumber):
    """Return the root mean square force (kcal/mol/Å) along a mode of hydrogen alone, from <F²> = m ω² kT."""
    omega = 2 * np.pi * 2.99792458e10 * wavenumber  # 1/s
    mass, kt = 1.00784 * 1.66053907e-27, 500 * 1.380649e-23
    return omega * np.sqrt(mass * kt) * 1e-10 * 6.02214076e23 / 4184


def test_forces_are_those_of_vibrations_in_kcal_per_mol(data):
    # of the three directions of a hydrogen one is a stretch at some 3,000 1/cm, two are softer
    forces = data["F"][:, data["z"] == 1]
    assert force_of_hydrogen(3000 / np.sqrt(3)) * 0.8 < np.sqrt((forces**2).mean()) < force_of_hydrogen(3000)


def test_net_force_and_torque_vanish(data):
    assert np.abs(data["F"].sum(axis=1)).max() < 1e-4
    torque = np.cross(data["R"], data["F"]).sum(axis=1)
    assert np.abs(torque).max() < 0.5  # the grid of the density functional has a direction


def test_every_frame_is_ethanol(data):
    frames = [Atoms(data["z"], positions) for positions in data["R"]]
    names = molecule_names(StructureBatch.from_atoms([molecule("CH3CH2OH"), *frames]))
    assert len(set(names)) == 1


def test_frames_are_apart_in_time(data):
    assert Sampling().interval >= 20.0
    distances = np.linalg.norm(data["R"][:, :, None] - data["R"][:, None], axis=-1)
    assert np.abs(np.diff(distances, axis=0)).max(axis=(1, 2)).min() > 0.05

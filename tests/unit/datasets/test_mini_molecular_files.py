"""The packed files of mini-water and mini-methane: one cell, whole molecules, order of time, labels of potentials."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import mlipbench
from mlipbench.datasets.mini.methane.generate import TRAJECTORY as METHANE
from mlipbench.datasets.mini.trajectories import Trajectory, diffusivity, packed, radial_distribution
from mlipbench.datasets.mini.water.generate import TRAJECTORY as WATER

MINI = Path(mlipbench.__file__).parent / "datasets" / "mini"
STEP = 1e-3  # Å


@dataclass(frozen=True)
class Known:
    """What is known of a dataset without its files."""

    plan: Trajectory
    molecule: tuple[str, ...]
    molecules: int
    frames: int
    density: float  # g/cm³
    bond: float  # Å
    rounding: float  # of forces, eV/Å, and what two central differences miss
    size: int  # bytes


KNOWN = {
    "water": Known(WATER, ("O", "H", "H"), 32, 901, 1.0, 1.03, 7e-4, 1_300_000),
    "methane": Known(METHANE, ("C", "H", "H", "H", "H"), 8, 601, 0.0631, 1.09, 4e-5, 800_000),
}


@pytest.fixture(scope="module", params=KNOWN)
def known(request):
    return request.param, KNOWN[request.param]


@pytest.fixture(scope="module")
def frames(known):
    name, what = known
    return packed(MINI / name / what.plan.file)


def test_all_frames_have_the_same_atoms_and_cell(known, frames):
    _, what = known
    assert len(frames) == what.frames
    for atoms in frames:
        assert atoms.get_chemical_symbols() == list(what.molecule) * what.molecules
        assert atoms.pbc.all()
        assert (atoms.cell.array == frames[0].cell.array).all()
    density = frames[0].get_masses().sum() * 1.66053907 / frames[0].get_volume()
    assert density == pytest.approx(what.density, rel=1e-3)


def test_files_are_small(known):
    name, what = known
    assert (MINI / name / what.plan.file).stat().st_size < what.size


def test_forces_are_central_differences_of_the_potential(known, frames):
    _, what = known
    for number in (0, what.frames // 2, what.frames - 1):
        stored = frames[number].get_forces()
        atoms = frames[number].copy()
        atoms.calc = what.plan.calculator()
        for atom, axis in ((0, 0), (16, 1), (39, 2)):
            ends = []
            for sign in (1, -1):
                atoms.positions = frames[number].positions
                atoms.positions[atom, axis] += sign * STEP
                ends.append(atoms.get_potential_energy())
            assert stored[atom, axis] == pytest.approx((ends[1] - ends[0]) / (2 * STEP), abs=what.rounding)


def test_energies_are_those_of_the_potential(known, frames):
    for stored in frames[::100]:
        atoms = stored.copy()
        atoms.calc = known[1].plan.calculator()
        assert stored.get_potential_energy() == pytest.approx(atoms.get_potential_energy(), abs=1e-5)


def test_molecules_stay_whole_and_unwrapped(known, frames):
    _, what = known
    positions = np.array([atoms.positions for atoms in frames]).reshape(len(frames), what.molecules, -1, 3)
    bonds = np.linalg.norm(positions[:, :, 1:] - positions[:, :, :1], axis=3)
    assert bonds.min() > 0.7
    assert bonds.max() < 1.5
    assert bonds.mean() == pytest.approx(what.bond, abs=0.03)


def test_frames_follow_each_other_in_time(known, frames):
    # a centre of mass has sqrt(3 kT/m) = 6.4 Å/ps (water) or 6.8 Å/ps (methane) at 300 K
    _, what = known
    positions = np.array([atoms.positions for atoms in frames]).reshape(len(frames), what.molecules, -1, 3)
    masses = frames[0].get_masses()[: len(what.molecule)]
    centres = np.einsum("fmax,a->fmx", positions, masses / masses.sum())
    speed = np.sqrt((np.diff(centres, axis=0) ** 2).sum(axis=2).mean()) / what.plan.interval * 1000
    assert speed == pytest.approx(np.sqrt(3 * 8.3144626 * 300 / (masses.sum() * 1e-3)) / 100, rel=0.15)


def test_the_centre_of_mass_stays(frames):
    centres = np.array([atoms.get_center_of_mass() for atoms in frames])
    assert np.abs(centres - centres[0]).max() < 1e-3


def test_bonds_count_the_hydrogens(known, frames):
    _, what = known
    centre = what.molecule[0]
    radii, values = radial_distribution(frames[::100], (centre, "H"))
    density = (len(what.molecule) - 1) * what.molecules / frames[0].get_volume()
    inside = radii < 1.3
    edges = np.arange(0, inside.sum() + 1) * (radii[1] - radii[0])
    counted = (values[inside] * density * 4 / 3 * np.pi * np.diff(edges**3)).sum()
    assert counted == pytest.approx(len(what.molecule) - 1, rel=1e-3)


def test_water_has_the_structure_and_the_diffusion_of_a_liquid():
    frames = packed(MINI / "water" / WATER.file)
    radii, values = radial_distribution(frames[::10], ("O", "O"))
    # of water at room temperature: 2.80 Å and 2.57 (Skinner et al., J. Chem. Phys. 138, 074506 (2013)), 2.3e-9 m²/s
    assert radii[np.argmax(values)] == pytest.approx(2.80, abs=0.1)
    assert 2.0 < values.max() < 4.0
    assert 1e-9 < diffusivity(WATER, frames) < 6e-9


def test_methane_is_a_gas():
    frames = packed(MINI / "methane" / METHANE.file)
    radii, values = radial_distribution(frames[::2], ("C", "C"))
    # of a thin gas g(r) = exp(-V/kT), whose minimum lies near that of methane's Lennard-Jones potential, 4.2 Å
    assert radii[np.argmax(values)] == pytest.approx(4.2, abs=0.4)
    assert values.max() < 2.5
    assert values[radii < 3.0].max() == 0.0
    assert diffusivity(METHANE, frames) > 5e-8

"""The packed file of mini-lips: one cell, order of time, labels of the potential beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import mlipbench
from mlipbench.datasets.mini.lips.generate import TRAJECTORY
from mlipbench.datasets.mini.lips.potential import BornMayer
from mlipbench.datasets.mini.trajectories import diffusivity, packed, radial_distribution

FILE = Path(mlipbench.__file__).parent / "datasets" / "mini" / "lips" / "lips.extxyz.xz"
FRAMES = 1001
STEP = 1e-3  # Å


@pytest.fixture(scope="module")
def frames():
    return packed(FILE)


def test_all_frames_have_the_same_atoms_and_cell(frames):
    assert len(frames) == FRAMES
    for atoms in frames:
        assert str(atoms.symbols) == "Li24P8S32"
        assert atoms.pbc.all()
        assert (atoms.cell.array == frames[0].cell.array).all()
    assert frames[0].cell.angles() != pytest.approx([90.0] * 3)


@pytest.mark.parametrize("number", [0, 500, 1000])
def test_forces_are_central_differences_of_the_potential(frames, number):
    stored = frames[number].get_forces()
    atoms = frames[number].copy()
    atoms.calc = BornMayer()
    for atom, axis in ((0, 0), (30, 1), (63, 2)):
        ends = []
        for sign in (1, -1):
            atoms.positions = frames[number].positions
            atoms.positions[atom, axis] += sign * STEP
            ends.append(atoms.get_potential_energy())
        assert stored[atom, axis] == pytest.approx((ends[1] - ends[0]) / (2 * STEP), abs=1e-4)


def test_energies_are_those_of_the_potential(frames):
    for stored in frames[::100]:
        atoms = stored.copy()
        atoms.calc = BornMayer()
        assert stored.get_potential_energy() == pytest.approx(atoms.get_potential_energy(), abs=1e-5)


def test_frames_follow_each_other_in_time(frames):
    # at 520 K lithium has 14 Å/ps along a path, so that 50 fs are less than 1 Å; frames out of order lie farther apart
    assert TRAJECTORY.interval == 50.0
    moved = np.linalg.norm(np.diff([atoms.positions for atoms in frames], axis=0), axis=2)
    assert moved.max() < 2.0
    assert moved.mean(axis=1).min() > 0.02


def test_phosphorus_keeps_four_sulphur_neighbours(frames):
    phosphorus, sulphur = range(24, 32), range(32, 64)
    for atoms in frames[::50]:
        for centre in phosphorus:
            distances = np.sort(atoms.get_distances(centre, sulphur, mic=True))
            assert distances[3] < 2.8
            assert distances[4] > 3.0


def test_lithium_diffuses_and_phosphorus_does_not(frames):
    away = frames[-1].positions - frames[0].positions
    squared = (away**2).sum(axis=1)
    assert squared[:24].mean() > 9.0
    assert squared[24:32].mean() < 1.0
    assert 1e-10 < diffusivity(TRAJECTORY, frames) < 1e-7


def test_radial_distribution_of_phosphorus_and_sulphur_counts_four_neighbours(frames):
    radii, values = radial_distribution(frames[::100], ("P", "S"))
    density = 32 / frames[0].get_volume()
    inside = radii < 2.9
    width = radii[1] - radii[0]
    assert (values[inside] * density * 4 * np.pi * radii[inside] ** 2 * width).sum() == pytest.approx(4.0, rel=0.01)

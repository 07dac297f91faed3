"""The entries of MDSim's water and LEIGNN's AIMD on files in the layouts that their code reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from dataset_helpers import vasprun

from mlipbench.datasets.entry import load_entry
from mlipbench.datasets.prepare import open_split
from mlipbench.errors import DatasetError

if TYPE_CHECKING:
    from mlipbench.datasets.prepare import DataLocation

KCAL = 23.06052  # kcal/mol an eV, MDSim's number
FRAMES = 33


def test_mdsims_water_comes_unwrapped_and_in_ev(location: DataLocation, in_process: Any) -> None:
    rng = np.random.default_rng(0)
    positions = rng.normal(size=(12, 192, 3)) * 20
    fields = {
        "wrapped_coords": positions % 12.4,
        "unwrapped_coords": positions,
        "velocities": rng.normal(size=(12, 192, 3)),
        "forces": rng.normal(size=(12, 192, 3)) * 30,
        "lengths": np.full((12, 3), 12.4),
        "angles": np.full((12, 3), 90.0),
        "atom_types": np.tile([8, 1, 1], 64),
        "energy": rng.normal(size=12) - 600,
        "e_steps": np.arange(12) * 10,
    }
    folder = location.data_root / "water"
    folder.mkdir()
    np.save(folder / "water.npy", fields, allow_pickle=True)
    entry = load_entry("water")
    split = open_split(entry, "trajectory", location)
    structures, labels = split.structures(0, 12), split.labels(0, 12)
    np.testing.assert_allclose(structures.positions, positions.reshape(-1, 3))
    np.testing.assert_allclose(structures.cell, np.tile(np.eye(3) * 12.4, (12, 1, 1)), atol=1e-9)
    assert structures.pbc.all()
    np.testing.assert_allclose(labels.energy, fields["energy"] / KCAL, rtol=1e-5)
    np.testing.assert_allclose(labels.forces, fields["forces"].reshape(-1, 3) / KCAL, rtol=1e-5)
    with pytest.raises(DatasetError, match="12 structures are too few for this split"):
        open_split(entry, "test", location)


@pytest.mark.parametrize(("dataset", "file"), [("water-aimd", "H2O"), ("methane-aimd", "CH4")])
def test_leignns_dynamics_are_read_and_cut(dataset: str, file: str, location: DataLocation, in_process: Any) -> None:
    frames = []
    for number in range(FRAMES):
        atoms = Atoms("OHH", np.eye(3) * 2 + number * 0.01, cell=[9, 9, 9], pbc=True)
        atoms.calc = SinglePointCalculator(atoms, energy=-10.0 - number, forces=np.full((3, 3), 0.1))
        atoms.calc.results["free_energy"] = -11.0 - number
        frames.append(atoms)
    folder = location.data_root / file
    folder.mkdir()
    (folder / "vasprun.xml").write_text(vasprun(frames))
    entry = load_entry(dataset)
    held = {name: open_split(entry, name, location) for name in entry.splits}
    assert {name: len(split) for name, split in held.items()} == {"train": 23, "val": 3, "test": 7, "trajectory": 33}
    # numbers of scikit-learn's own split
    np.testing.assert_allclose(held["test"].labels(0, 5).energy, -10.0 - np.array([5, 8, 13, 21, 26]))
    np.testing.assert_allclose(held["trajectory"].labels(0, 33).energy, -10.0 - np.arange(33))

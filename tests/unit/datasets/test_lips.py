"""LiPS as published, and in the files that MDSim makes of it."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

pytest.importorskip("lmdb")

from lmdb_helpers import fields_of, write_lmdb
from pickle_helpers import Raw, data, done, whole

from mlipbench.datasets.entry import load_entry
from mlipbench.datasets.prepare import open_split
from mlipbench.datasets.rules import MdsimSplit

if TYPE_CHECKING:
    from pathlib import Path

SIZES = {"pool": 16, "size": 16, "val": 4}
# what scikit-learn 1.9.1 draws with these sizes, as MDSim calls it, out of 21 frames
DRAWN = {
    "train": [12, 9, 17, 10, 15, 8, 0, 13, 6, 20, 19, 2],
    "val": [1, 11, 14, 16],
    "test": [4, 7, 5, 18, 3],
}


@pytest.fixture
def frames() -> list[Atoms]:
    """A short trajectory whose coordinates and forces float32 holds, and whose energies it does not."""
    rng = np.random.default_rng(0)
    made = []
    for number in range(21):
        atoms = Atoms(
            "Li27P12S44", rng.integers(0, 2000, (83, 3)) / 256, cell=[[9, 0, 0], [1, 8, 0], [0, 2, 7]], pbc=True
        )
        forces = rng.integers(-500, 500, (83, 3)) / 256
        atoms.calc = SinglePointCalculator(atoms, energy=-356.18500123 - number / 8, forces=forces)
        made.append(atoms)
    return made


def stacked(frames: list[Atoms]) -> dict[str, np.ndarray]:
    """Return the arrays that MDSim writes for NequIP."""
    return {
        "pbc": np.array([True] * 3),
        "pos": np.array([atoms.positions for atoms in frames]),
        "energy": np.array([[atoms.calc.results["energy"]] for atoms in frames]),
        "forces": np.array([atoms.calc.results["forces"] for atoms in frames]),
        "cell": frames[0].cell.array,
        "atomic_numbers": frames[0].numbers,
    }


def sample(atoms: Atoms, number: int) -> bytes:
    """Return a pickled sample as MDSim writes it, its number one of numpy's."""
    fields = {key: item for key, item in fields_of(atoms).items() if key != "tags"}
    fields |= {"y": np.array([atoms.calc.results["energy"]], dtype=np.float32), "natoms": np.array([83]), "sid": 0}
    return done(data(fields | {"fid": Raw(pickle.dumps(np.int64(number), protocol=2)[2:-1])}))


@pytest.fixture
def root(location, frames, in_process) -> Path:
    folder = location.data_root / "lips"
    for part, numbers in DRAWN.items():
        place = folder / "20k" / part
        place.mkdir(parents=True)
        drawn = [frames[number] for number in numbers]
        np.savez(place / "nequip_npz.npz", **stacked(drawn))
        items = {str(i): sample(atoms, number) for i, (atoms, number) in enumerate(zip(drawn, numbers, strict=True))}
        write_lmdb(place / "data.lmdb", items | {"length": done(whole(len(numbers) - 1))})
    write(folder / "lips.xyz", frames, format="extxyz")
    return folder


def opened(split, location):
    """Open a split of MDSim's files, or one that is cut out of the published file, which has 21 frames here."""
    if split in load_entry("lips-mdsim").splits:
        return open_split(load_entry("lips-mdsim"), split, location)
    entry, part = load_entry("lips"), split.removesuffix("_xyz")
    spec = entry.splits[part].model_copy(update={"mdsim": MdsimSplit(part=part, **SIZES)})
    return open_split(entry.model_copy(update={"splits": {part: spec}}), part, location)


@pytest.mark.parametrize("part", DRAWN)
def test_the_splits_are_equal_in_every_container(root, location, frames, part):
    numbers = sorted(DRAWN[part])
    energies = np.array([frames[number].calc.results["energy"] for number in numbers])
    xyz = opened(f"{part}_xyz", location)
    assert xyz.ids.tolist() == [f"lips/lips:{number}" for number in numbers]
    expected, labels = xyz.structures(0, len(numbers)), xyz.labels(0, len(numbers))
    np.testing.assert_array_equal(labels.energy, energies)
    assert not np.array_equal(energies, energies.astype(np.float32))
    order = np.argsort(DRAWN[part])
    for name, right in ((part, energies), (f"{part}_lmdb", energies.astype(np.float32))):
        split = opened(name, location)
        found = split.structures(0, len(split)).select(order)
        for column in ("numbers", "positions", "cell", "pbc", "offsets"):
            np.testing.assert_array_equal(getattr(found, column), getattr(expected, column))
        given = split.labels(0, len(split))
        np.testing.assert_array_equal(given.energy[order], right)
        np.testing.assert_array_equal(given.forces.reshape(-1, 83, 3)[order], labels.forces.reshape(-1, 83, 3))


def test_samples_are_named_by_their_place_in_the_trajectory(root, location):
    assert opened("val_lmdb", location).ids.tolist() == ["1", "11", "14", "16"]
    assert opened("test_lmdb", location).ids.tolist() == ["4", "7", "5", "18", "3"]


def test_the_folder_of_mdsim_may_be_the_data_root(root, location):
    root.rename(location.data_root / "elsewhere")
    moved = type(location)(location.data_root / "elsewhere", location.cache)
    assert [len(opened(name, moved)) for name in ("train", "train_lmdb", "train_xyz")] == [12, 12, 12]

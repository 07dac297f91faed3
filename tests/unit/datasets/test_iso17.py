"""The layout of ISO17's archive: ASE databases, lists of row numbers, isomers as clusters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from ase.build import molecule
from ase.db import connect

from mlipbench.datasets.entry import load_entry
from mlipbench.datasets.prepare import DataLocation, open_split

if TYPE_CHECKING:
    from pathlib import Path

    from mlipbench.structures.columnar import Split

ISOMERS = ("CH3CH2OH", "CH3OCH3")  # smaller than ISO17's
FRAMES = 5


@pytest.fixture
def root(tmp_path: Path) -> Path:
    rng, folder = np.random.default_rng(0), tmp_path / "data/iso17"
    folder.mkdir(parents=True)
    with connect(folder / "reference.db") as rows:
        for number in range(2 * FRAMES):
            atoms = molecule(ISOMERS[number % 2])
            atoms.positions += rng.normal(0, 0.02, atoms.positions.shape)
            forces = np.full((9, 3), float(number))
            rows.write(atoms, key_value_pairs={"total_energy": -4000.0 - number}, data={"atomic_forces": forces})
    (folder / "train_ids.txt").write_text("1\n2\n5\n8\n")
    (folder / "validation_ids.txt").write_text("10\n")
    return tmp_path / "data"


def opened(root: Path, split: str) -> Split:
    entry = load_entry("iso17").model_copy(update={"formula": "C2H6O"})
    return open_split(entry, split, DataLocation(root, root.parent / "cache"))


def test_row_numbers_begin_with_one(root):
    train, val = opened(root, "train"), opened(root, "val")
    assert train.labels(0, 4).energy.tolist() == [-4000.0, -4001.0, -4004.0, -4007.0]
    assert val.labels(0, 1).energy.tolist() == [-4009.0]
    assert train.labels(0, 4).forces[:, 0].tolist() == [0.0] * 9 + [1.0] * 9 + [4.0] * 9 + [7.0] * 9
    assert train.names(0, 4).tolist() == ["1", "2", "5", "8"]


def test_frames_of_an_isomer_belong_together(root):
    train = opened(root, "train")
    assert train.clusters.tolist() == [0, 1, 0, 1]
    assert {str(name).split("-")[0] for name in train.cluster_names} == {"C2H6O"}

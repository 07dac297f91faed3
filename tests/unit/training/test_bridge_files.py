"""Files that packages read, and steps in their terms."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ase.io
import numpy as np
import pytest
from bridge_toys import job_for, save

from mlipbench.recipe import Recipe
from mlipbench.training.bridges.bridge import Material
from mlipbench.training.bridges.epochs import Epochs
from mlipbench.training.bridges.extxyz import ENERGY_KEY, FORCES_KEY, write_extxyz

if TYPE_CHECKING:
    from pathlib import Path


def test_every_digit_of_labels_and_structures_is_read_back(tmp_path: Path) -> None:
    material = Material.of(job_for(save(tmp_path / "columns")))
    data, weights = material.train, np.square(material.train.structures.counts).astype(float)
    write_extxyz(tmp_path / "train.xyz", data, material.train_targets, {"config_energy_weight": weights})
    frames = ase.io.read(tmp_path / "train.xyz", index=":")
    assert [frame.info[ENERGY_KEY] for frame in frames] == material.train_targets.tolist()
    assert [frame.info["config_energy_weight"] for frame in frames] == weights.tolist()
    for part, expected in ((FORCES_KEY, data.forces), ("positions", data.structures.positions)):
        assert np.concatenate([frame.arrays[part] for frame in frames]).tolist() == expected.tolist()
    assert np.concatenate([frame.numbers for frame in frames]).tolist() == data.structures.numbers.tolist()
    assert not any(frame.pbc.any() or frame.cell.array.any() for frame in frames)


def test_cells_are_read_back(tmp_path: Path) -> None:
    material = Material.of(job_for(save(tmp_path / "columns")))
    structures = material.train.structures
    rng = np.random.default_rng(0)
    structures.cell.setflags(write=True)
    structures.pbc.setflags(write=True)
    structures.cell[:] = rng.normal(size=structures.cell.shape)
    structures.pbc[:] = [True, True, False]
    write_extxyz(tmp_path / "train.xyz", material.train, material.train_targets)
    frames = ase.io.read(tmp_path / "train.xyz", index=":")
    assert np.array([frame.cell.array for frame in frames]).tolist() == structures.cell.tolist()
    assert {tuple(frame.pbc.tolist()) for frame in frames} == {(True, True, False)}


def recipe(**changes: int) -> Recipe:
    content = {
        "recipe": "mine",
        "version": 1,
        "preset": "small",
        "train": {"split": "train"},
        "validation": {"split": "val"},
        "energy_reference": "mean",
        "loss": {"kind": "mse", "energy": 1.0, "forces": 50.0},
        "learning_rates": [1e-3],
        "schedule": {"kind": "exponential"},
        "batch": 10,
        "steps": 100,
        "evaluate_every": 10,
    }
    return Recipe.model_validate(content | changes)


@pytest.mark.parametrize(
    ("n_train", "changes", "expected"),
    [
        # rMD17: 95 steps an epoch, 2850 of them are 30 epochs
        (950, {"steps": 2850, "evaluate_every": 95}, (10, 95, 1, 30)),
        # validations after epochs 1, 4, ..., 31: 30 is raised to 31
        (950, {"steps": 2850, "evaluate_every": 285}, (10, 95, 3, 31)),
        # 59 structures make 5 whole batches of 10; 100 steps are 20 epochs, and a validation cannot be oftener than one
        (59, {"evaluate_every": 2}, (10, 5, 1, 20)),
        # 101 steps do not fit in 20 epochs
        (59, {"steps": 101, "evaluate_every": 5}, (10, 5, 1, 21)),
        # fewer structures than a batch
        (7, {"steps": 3, "evaluate_every": 1}, (7, 1, 1, 3)),
        (7, {"steps": 1, "evaluate_every": 50}, (7, 1, 50, 1)),
    ],
)
def test_steps_are_turned_into_whole_epochs(
    n_train: int, changes: dict[str, int], expected: tuple[int, int, int, int]
) -> None:
    assert tuple(Epochs.of(recipe(**changes), n_train)) == expected

# ruff: noqa: E402 - torch first
"""What a recipe may not ask of the data: one clear line each."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

pytest.importorskip("torch")
pytestmark = pytest.mark.torch

from training_helpers import clusters_of_atoms, job_for, lennard_jones, save

from mlipbench.errors import ConfigError, DatasetError
from mlipbench.structures.columnar import Labels
from mlipbench.training.data import check_elements, load_data

if TYPE_CHECKING:
    from pathlib import Path

    from mlipbench.structures.columnar import Split


def test_structures_and_labels_of_a_subset(split: Split) -> None:
    shuffled = {"split": "train", "shuffle_seed": 5, "slice": [0, 5, None]}
    rest = {"split": "train", "shuffle_seed": 5, "slice": [5, None, None]}
    train, validation = load_data(job_for(split, train=shuffled, validation=rest))
    assert sorted([*train.indices.tolist(), *validation.indices.tolist()]) == list(range(12))
    whole, labels = split.structures(0, 12), split.labels(0, 12)
    for part in (train, validation):
        expected = whole.select(part.indices)
        assert part.structures.positions.tolist() == expected.positions.tolist()
        assert part.energy.tolist() == labels.energy[part.indices].tolist()
        np.testing.assert_allclose(part.forces, lennard_jones(expected).forces)
        assert part.clusters.tolist() == part.indices.tolist()


def test_a_split_is_read_in_pieces(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _ = load_data(job_for(split))
    chunks = type(split).chunks
    monkeypatch.setattr(type(split), "chunks", lambda self: chunks(self, max_atoms=5))
    pieces, _ = load_data(job_for(split))
    assert len(list(split.chunks())) > 5
    assert pieces.structures.offsets.tolist() == whole.structures.offsets.tolist()
    assert pieces.structures.numbers.tolist() == whole.structures.numbers.tolist()
    assert pieces.forces.tolist() == whole.forces.tolist()


def test_overlap_within_a_split(split: Split) -> None:
    with pytest.raises(ConfigError, match=r"overlap: 2 of the validation structures .* the first is 'cluster6'"):
        load_data(job_for(split, validation={"split": "train", "slice": [6, None, None]}))


def test_overlap_between_splits_is_found_by_content(split: Split, tmp_path: Path) -> None:
    structures = clusters_of_atoms(9, seed=1)
    copies = split.structures(3, 4).positions
    moved = structures.positions.copy()
    moved[structures.offsets[3] : structures.offsets[4]] = copies
    other = save(tmp_path / "other", replace(structures, positions=moved))
    changes = {"train": {"split": "train"}, "validation": {"split": "val"}}
    with pytest.raises(ConfigError, match=r"overlap: 1 of the validation structures .* the first is 'cluster3'"):
        load_data(job_for(split, other, **changes))
    unlike = save(tmp_path / "unlike", structures)
    train, validation = load_data(job_for(split, unlike, **changes))
    assert (train.n_structures, validation.n_structures) == (12, 9)


def test_an_empty_subset(split: Split) -> None:
    with pytest.raises(ConfigError, match="recipe: validation: selects none of the 12 structures of split 'train'"):
        load_data(job_for(split, validation={"split": "train", "slice": [12, None, None]}))


def test_forces_are_to_be_fitted_where_there_are_none(tmp_path: Path) -> None:
    structures = clusters_of_atoms(12)
    split = save(tmp_path / "bare", structures, Labels(lennard_jones(structures).energy))
    with pytest.raises(ConfigError, match=r"recipe: loss\.forces: split 'train' has no forces"):
        load_data(job_for(split))
    train, _ = load_data(job_for(split, loss={"energy": 1.0, "forces": 0.0}))
    assert train.forces is None


@pytest.mark.parametrize("which", ["energy", "forces"])
def test_a_label_that_is_no_number(which: str, tmp_path: Path) -> None:
    structures = clusters_of_atoms(12)
    labels = lennard_jones(structures)
    if which == "energy":
        labels.energy[9] = np.inf
    else:
        labels.forces[structures.offsets[9], 1] = np.nan
    with pytest.raises(DatasetError, match="structure cluster9: an energy or force is not a finite number"):
        load_data(job_for(save(tmp_path / "odd", structures, labels)))


def test_elements_beyond_the_network(split: Split) -> None:
    parts = load_data(job_for(split))
    check_elements(19, *parts)
    with pytest.raises(ConfigError, match=r"elements the network does not cover: Ar \(18\);"):
        check_elements(18, *parts)


@pytest.mark.parametrize("damage", ["missing", "truncated", "meta"])
def test_columns_that_cannot_be_read(damage: str, split: Split) -> None:
    job = job_for(split)
    path = split.directory / ("meta.json" if damage == "meta" else "positions.npy")
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DatasetError, match="the cached columns are missing or damaged"):
        load_data(job)

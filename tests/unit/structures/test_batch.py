"""Structures as columns."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.constraints import FixAtoms
from hypothesis import given
from hypothesis import strategies as st

from mlipbench.structures import StructureBatch, concatenate


def labelled() -> list[Atoms]:
    slab = bulk("Cu", cubic=True)
    slab.set_tags([0, 1, 1, 2])
    slab.set_constraint(FixAtoms([0, 3]))
    water = molecule("H2O")
    lone = Atoms("He", cell=[1, 2, 3], pbc=[True, False, False])
    frames = [slab, water, lone]
    for k, atoms in enumerate(frames):
        atoms.info.update(charge=float(k), spin=1.0, id=f"frame-{k}")
    return frames


def equal(one: StructureBatch, other: StructureBatch) -> bool:
    return set(one.columns()) == set(other.columns()) and all(
        np.array_equal(column, other.columns()[name]) for name, column in one.columns().items()
    )


def test_atoms_survive_the_round_trip():
    frames = labelled()
    batch = StructureBatch.from_atoms(frames)
    assert batch.offsets.tolist() == [0, 4, 7, 8]
    assert batch.counts.tolist() == [4, 3, 1]
    assert batch.structure_index.tolist() == [0] * 4 + [1] * 3 + [2]
    for before, after in zip(frames, batch.to_atoms(), strict=True):
        assert before == after
        assert before.info == after.info
        np.testing.assert_array_equal(before.get_tags(), after.get_tags())
        np.testing.assert_array_equal(before.pbc, after.pbc)
        assert [c.index.tolist() for c in before.constraints] == [c.index.tolist() for c in after.constraints]
    assert equal(StructureBatch.from_atoms(batch.to_atoms()), batch)


def test_columns_that_no_frame_has_are_absent():
    batch = StructureBatch.from_atoms([molecule("H2O")])
    assert set(batch.columns()) == {"numbers", "positions", "cell", "pbc", "offsets"}


def test_an_entry_of_some_frames_only_is_refused():
    frames = labelled()
    del frames[1].info["charge"]
    with pytest.raises(ValueError, match=r"charge.* 2 of 3 frames"):
        StructureBatch.from_atoms(frames)


def test_no_frames_make_an_empty_batch():
    batch = StructureBatch.from_atoms([])
    assert len(batch) == batch.n_atoms == 0
    assert batch.to_atoms() == []
    assert list(batch) == []


def test_a_slice_is_a_view():
    batch = StructureBatch.from_atoms(labelled())
    part = batch.slice(1, 3)
    assert part.offsets.tolist() == [0, 3, 4]
    assert part.id.tolist() == ["frame-1", "frame-2"]
    assert np.shares_memory(part.positions, batch.positions)


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (2, 1), (0, 4)])
def test_a_slice_outside_the_batch_is_refused(start, stop):
    with pytest.raises(IndexError):
        StructureBatch.from_atoms(labelled()).slice(start, stop)


@given(indices=st.lists(st.integers(0, 2), max_size=6))
def test_select_takes_structures_in_the_order_given(indices):
    batch = StructureBatch.from_atoms(labelled())
    chosen = batch.select(indices)
    assert len(chosen) == len(indices)
    for found, k in zip(chosen, indices, strict=True):
        assert equal(found, batch.slice(k, k + 1))


def test_select_takes_a_mask():
    batch = StructureBatch.from_atoms(labelled())
    assert equal(batch.select(np.array([True, False, True])), batch.select([0, 2]))


def test_concatenate_undoes_iteration():
    batch = StructureBatch.from_atoms(labelled())
    assert equal(concatenate(list(batch)), batch)


def test_concatenate_refuses_columns_of_some_batches_only():
    with pytest.raises(ValueError, match="tags"):
        concatenate([StructureBatch.from_atoms(labelled()[:1]), StructureBatch.from_atoms([molecule("H2O")])])
    with pytest.raises(ValueError, match="nothing"):
        concatenate([])


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"positions": np.zeros((3, 3))}, "positions has shape"),
        ({"cell": np.zeros((2, 3, 3))}, "cell has shape"),
        ({"pbc": np.zeros(3)}, "pbc has shape"),
        ({"tags": np.zeros(3)}, "tags has shape"),
        ({"charge": np.zeros(2)}, "charge has shape"),
        ({"offsets": [0, 1]}, "number of atoms"),
        ({"offsets": [0, 3, 2]}, "not decrease"),
        ({"offsets": []}, "start at 0"),
    ],
)
def test_columns_that_do_not_fit_are_refused(changes, problem):
    columns = {
        "numbers": [1, 1],
        "positions": np.zeros((2, 3)),
        "cell": np.zeros((1, 3, 3)),
        "pbc": np.zeros((1, 3)),
        "offsets": [0, 2],
    }
    with pytest.raises(ValueError, match=problem):
        StructureBatch(**(columns | changes))

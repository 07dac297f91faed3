"""The neighbour list against a search over all images."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlipbench.structures import StructureBatch, concatenate
from mlipbench.structures.neighbors import completed_cell, neighbor_list

if TYPE_CHECKING:
    from mlipbench.typing import BoolArray, FloatArray

BORDER = 1e-9


def one(positions: FloatArray, cell: FloatArray, pbc: object) -> StructureBatch:
    positions = np.asarray(positions, dtype=float).reshape(-1, 3)
    return StructureBatch(
        numbers=np.ones(len(positions)),
        positions=positions,
        cell=np.asarray(cell, dtype=float)[None],
        pbc=np.broadcast_to(pbc, 3)[None],
        offsets=[0, len(positions)],
    )


def brute_force(
    positions: FloatArray, cell: FloatArray, pbc: BoolArray, cutoff: float
) -> dict[tuple[int, ...], FloatArray]:
    """Every pair within the cutoff, over all images that the heights of the cell allow."""
    images = [range(1)] * 3
    if pbc.any():
        directions = np.linalg.pinv(np.where(pbc[:, None], cell, 0.0))  # columns: reciprocal vectors of the subspace
        fractional = positions @ directions
        for k in np.flatnonzero(pbc):
            height = 1 / np.linalg.norm(directions[:, k])
            spread = np.ptp(fractional[:, k]) if len(positions) else 0.0
            reach = int(np.ceil(cutoff / height + spread)) + 1
            images[k] = range(-reach, reach + 1)
    found = {}
    for shift in itertools.product(*images):
        offset = np.asarray(shift) @ cell
        for i, j in itertools.product(range(len(positions)), repeat=2):
            vector = positions[j] + offset - positions[i]
            if (i != j or any(shift)) and np.linalg.norm(vector) < cutoff + BORDER:
                found[i, j, *shift] = vector
    return found


coordinates = st.floats(-9, 9, allow_nan=False)


@st.composite
def structures(draw: st.DrawFn) -> tuple[FloatArray, FloatArray, BoolArray]:
    n_atoms = draw(st.integers(0, 5))
    positions = np.array(draw(st.lists(coordinates, min_size=3 * n_atoms, max_size=3 * n_atoms))).reshape(-1, 3)
    pbc = np.array(draw(st.tuples(st.booleans(), st.booleans(), st.booleans())))
    diagonal = np.array(draw(st.tuples(*[st.floats(1.2, 7)] * 3)))
    shear = np.array(draw(st.lists(st.floats(-2, 2), min_size=9, max_size=9))).reshape(3, 3)
    cell = np.diag(diagonal) + np.tril(shear, -1)
    if draw(st.booleans()):
        cell = cell[::-1]  # left-handed
    if draw(st.booleans()):
        cell = np.where(pbc[:, None], cell, draw(st.sampled_from([0.0, 1.0])))  # absent or dependent vectors
    return positions, np.ascontiguousarray(cell), pbc


@settings(max_examples=60, deadline=None)
@given(structure=structures(), cutoff=st.floats(0.5, 4.5))
def test_finds_what_a_search_over_all_images_finds(structure, cutoff):
    positions, cell, pbc = structure
    batch = one(positions, cell, pbc)
    found = neighbor_list(batch, cutoff)
    vectors = found.vectors(batch)
    keys = [(i, j, *s) for i, j, s in zip(found.i.tolist(), found.j.tolist(), found.shifts.tolist(), strict=True)]
    assert len(keys) == len(set(keys))
    expected = brute_force(positions, cell, pbc, cutoff)
    certain = {key for key, vector in expected.items() if np.linalg.norm(vector) < cutoff - BORDER}
    assert certain <= set(keys) <= set(expected)
    for key, vector in zip(keys, vectors, strict=True):
        np.testing.assert_allclose(vector, expected[key], atol=1e-9)


def test_counts_the_images_of_a_cell_much_smaller_than_the_cutoff():
    batch = one(np.zeros((1, 3)), np.eye(3), pbc=True)
    points = itertools.product(range(-4, 5), repeat=3)
    assert neighbor_list(batch, 3.0 + 1e-6).n_edges == sum(0 < x * x + y * y + z * z <= 9 for x, y, z in points)


def test_edges_lie_together_by_structure():
    dimer = one([[0, 0, 0], [1, 0, 0]], np.zeros((3, 3)), pbc=False)
    nothing = one([], np.zeros((3, 3)), pbc=False)
    lone = one([[7, 8, 9]], np.zeros((3, 3)), pbc=False)
    chain = one([[0, 0, 0]], np.diag([2, 0, 0]), pbc=np.array([True, False, False]))
    found = neighbor_list(concatenate([dimer, nothing, lone, chain]), 2.5)
    assert found.offsets.tolist() == [0, 2, 2, 2, 4]
    assert found.counts.tolist() == [2, 0, 0, 2]
    assert found.structure_index.tolist() == [0, 0, 3, 3]
    assert sorted(found.i.tolist()) == [0, 1, 3, 3]
    assert sorted(found.shifts[2:, 0].tolist()) == [-1, 1]


def test_a_batch_of_no_structures_has_no_edges():
    found = neighbor_list(StructureBatch.from_atoms([]), 3.0)
    assert found.n_edges == 0
    assert found.offsets.tolist() == [0]


@pytest.mark.parametrize("cutoff", [0.0, -1.0, np.nan, np.inf])
def test_refuses_a_cutoff_that_is_not_positive(cutoff):
    with pytest.raises(ValueError, match="cutoff"):
        neighbor_list(one([[0, 0, 0]], np.eye(3), pbc=True), cutoff)


def test_refuses_coordinates_that_are_not_finite():
    good = one([[0, 0, 0]], np.eye(3), pbc=True)
    bad = one([[0, np.nan, 0]], np.eye(3), pbc=True)
    with pytest.raises(ValueError, match=r"structure 1 .*finite"):
        neighbor_list(concatenate([good, bad]), 2.0)


@pytest.mark.parametrize(
    ("cell", "pbc", "problem"),
    [
        (np.zeros((3, 3)), [True, True, True], "no lattice vector"),
        (np.diag([3.0, 3.0, 0.0]), [False, True, True], "no lattice vector"),
        (np.ones((3, 3)), [True, True, True], "dependent"),
        (np.ones((3, 3)), [True, True, False], "dependent"),
    ],
)
def test_refuses_dependent_periodic_vectors(cell, pbc, problem):
    with pytest.raises(ValueError, match=f"structure 0: .*{problem}"):
        neighbor_list(one([[0, 0, 0]], cell, np.array(pbc)), 2.0)


def test_completed_cell_stands_across_the_periodic_directions():
    cell = np.array([[3.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 2.0, 4.0]])
    completed = completed_cell(cell, np.array([True, False, True]))
    np.testing.assert_array_equal(completed[[0, 2]], cell[[0, 2]])
    np.testing.assert_allclose(completed[[0, 2]] @ completed[1], 0, atol=1e-12)
    assert np.linalg.norm(completed[1]) == pytest.approx(1)

"""Neighbour lists against searches by hand, over all images and all pairs."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING
from unittest import mock

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from mlipbench.structures import StructureBatch, concatenate, neighbors
from mlipbench.structures.neighbors import (
    SHELL_WIDTH,
    NeighborCap,
    NeighborList,
    completed_cell,
    nearest_neighbors,
    neighbor_list,
    within,
)

if TYPE_CHECKING:
    from mlipbench.typing import FloatArray

BORDER = 1e-9  # Å, how far from the cutoff rounding may decide
NO_CELL = np.zeros((3, 3))
FCC = np.array([[0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]])

finite = st.floats(-1, 1)
cutoffs = st.floats(0.5, 4.0)


def one(positions: FloatArray, cell: FloatArray, pbc: object) -> StructureBatch:
    positions = np.asarray(positions, dtype=float).reshape(-1, 3)
    return StructureBatch(
        numbers=np.ones(len(positions)),
        positions=positions,
        cell=np.asarray(cell, dtype=float)[None],
        pbc=np.broadcast_to(pbc, 3)[None],
        offsets=[0, len(positions)],
    )


def reaches(batch: StructureBatch, cutoff: float) -> list[int]:
    """How many cells away a neighbour can be along each lattice vector of the only structure."""
    (cell,), (pbc,) = batch.cell, batch.pbc
    if not (pbc.any() and batch.n_atoms):
        return [0, 0, 0]
    directions = np.linalg.pinv(np.where(pbc[:, None], cell, 0.0))  # columns: reciprocal vectors of the subspace
    spread = np.ptp(batch.positions @ directions, axis=0)
    return [int(np.ceil(cutoff * np.linalg.norm(directions[:, k]) + spread[k])) + 1 if pbc[k] else 0 for k in range(3)]


def search(batch: StructureBatch, cutoff: float) -> dict[tuple[int, ...], FloatArray]:
    """Every pair within the cutoff of the only structure, image by image."""
    found = {}
    between = batch.positions[None, :] - batch.positions[:, None]
    for shift in itertools.product(*[range(-n, n + 1) for n in reaches(batch, cutoff)]):
        vectors = between + np.asarray(shift, dtype=float) @ batch.cell[0]
        for i, j in np.argwhere((vectors**2).sum(-1) < (cutoff + BORDER) ** 2).tolist():
            if i != j or any(shift):
                found[i, j, *shift] = vectors[i, j]
    return found


def keys(found: NeighborList) -> list[tuple[int, ...]]:
    """The edges as they stand."""
    return [(i, j, *s) for i, j, s in zip(found.i.tolist(), found.j.tolist(), found.shifts.tolist(), strict=True)]


def vectors_of(found: NeighborList, batch: StructureBatch) -> dict[tuple[int, ...], list[float]]:
    """The edges without their order."""
    vectors = dict(zip(keys(found), found.vectors(batch).tolist(), strict=True))
    assert len(vectors) == found.n_edges
    return vectors


def certain(batch: StructureBatch, cutoff: float) -> bool:
    """Whether no distance is so close to the cutoff that rounding decides."""
    found = neighbor_list(batch, cutoff + 1e-6)
    return bool((np.linalg.norm(found.vectors(batch), axis=1) < cutoff - 1e-6).all())


@st.composite
def structures(draw: st.DrawFn, largest: int = 5) -> StructureBatch:
    """One structure of any periodicity; a cell is triclinic, of either hand, and may be rotated."""
    n_atoms = draw(st.integers(0, largest))
    pbc = np.array(draw(st.tuples(st.booleans(), st.booleans(), st.booleans())))
    shear = np.array(draw(st.lists(finite, min_size=9, max_size=9))).reshape(3, 3)
    cell = np.diag(draw(st.tuples(*[st.floats(1.5, 7)] * 3))) + np.tril(shear, -1)
    cell = cell[list(draw(st.permutations(range(3))))]  # an odd one makes it left-handed
    if draw(st.booleans()):
        cell = cell @ np.linalg.qr(shear + 2 * np.eye(3))[0]
    within_cell = np.array(draw(st.lists(finite, min_size=3 * n_atoms, max_size=3 * n_atoms))).reshape(-1, 3)
    positions = within_cell @ cell * draw(st.sampled_from([0.5, 2.0]))  # some in the cell, some far out of it
    if not pbc.all():
        across = np.where(pbc[:, None], 0.0, completed_cell(cell, pbc))
        positions = positions + within_cell @ across * draw(st.sampled_from([0.0, 20.0]))
        cell = np.where(pbc[:, None], cell, draw(st.sampled_from([0.0, 1.0, 5.0])))  # absent, or no cell at all
    return one(positions, cell, pbc)


@settings(max_examples=120, deadline=None)
@given(batch=structures(), cutoff=cutoffs)
def test_finds_what_a_search_over_all_images_finds(batch, cutoff):
    assume(np.prod([2 * n + 1 for n in reaches(batch, cutoff)]) < 2000)
    found = neighbor_list(batch, cutoff)
    vectors, expected = vectors_of(found, batch), search(batch, cutoff)
    assert {key for key, v in expected.items() if np.linalg.norm(v) < cutoff - BORDER} <= set(vectors)
    for key, vector in vectors.items():
        np.testing.assert_allclose(vector, expected[key], atol=BORDER)
    assert (np.diff(found.i) >= 0).all()
    assert found.offsets.tolist() == [0, len(vectors)]
    assert not found.shifts[:, ~batch.pbc[0]].any()


@settings(max_examples=50, deadline=None)
@given(batch=structures(8), cutoff=cutoffs)
def test_every_pair_stands_in_both_directions(batch, cutoff):
    found = neighbor_list(batch, cutoff)
    vectors = vectors_of(found, batch)
    for (i, j, a, b, c), vector in vectors.items():
        assert vectors[j, i, -a, -b, -c] == [-x for x in vector]


@settings(max_examples=40, deadline=None)
@given(batches=st.lists(structures(8), min_size=1, max_size=5), cutoff=cutoffs)
def test_a_batch_has_the_edges_of_its_structures(batches, cutoff):
    together = concatenate(batches)
    found = neighbor_list(together, cutoff)
    assert found.n_edges == found.offsets[-1]
    for s, batch in enumerate(batches):
        alone, own = neighbor_list(batch, cutoff), slice(*found.offsets[s : s + 2])
        assert found.counts[s] == alone.n_edges
        assert (found.structure_index[own] == s).all()
        np.testing.assert_array_equal(found.i[own], alone.i + together.offsets[s])
        np.testing.assert_array_equal(found.j[own], alone.j + together.offsets[s])
        np.testing.assert_array_equal(found.shifts[own], alone.shifts)
        np.testing.assert_array_equal(found.vectors(together)[own], alone.vectors(batch))


@settings(max_examples=50, deadline=None)
@given(batch=structures(), cutoff=cutoffs, data=st.data())
def test_atoms_may_be_any_number_of_cells_away(batch, cutoff, data):
    assume(certain(batch, cutoff))
    far = st.sampled_from([0, 1, -3, 60, 1000, -300_000])  # beyond 100 the search is another one
    moved = np.array(data.draw(st.lists(far, min_size=3 * batch.n_atoms, max_size=3 * batch.n_atoms))).reshape(-1, 3)
    moved *= batch.pbc
    away = one(batch.positions + moved @ batch.cell[0], batch.cell[0], batch.pbc[0])
    near, found = neighbor_list(batch, cutoff), neighbor_list(away, cutoff)
    shifts = near.shifts + moved[near.i] - moved[near.j]
    assert set(keys(found)) == {(i, j, *s) for (i, j, *_), s in zip(keys(near), shifts.tolist(), strict=True)}
    assert found.n_edges == near.n_edges
    assert (np.diff(found.i) >= 0).all()


@settings(max_examples=50, deadline=None)
@given(batch=structures(8), cutoff=cutoffs)
def test_the_search_in_scattered_structures_finds_the_same(batch, cutoff):
    usual = neighbor_list(batch, cutoff)
    assume(certain(batch, cutoff))
    with mock.patch.object(neighbors, "_MOST_BINS", 0.0):
        found = neighbor_list(batch, cutoff)
    assert vectors_of(found, batch) == vectors_of(usual, batch)
    np.testing.assert_array_equal(found.i, usual.i)


@pytest.mark.parametrize(
    ("third", "cell", "pbc", "n_edges"),
    [
        ([6e5, 0, 0], NO_CELL, [False] * 3, 2),
        ([3e3, 3e3, 0], NO_CELL, [False] * 3, 2),
        ([1e8, 1e4, 1e6], NO_CELL, [False] * 3, 2),
        ([0, 0, 1e7], np.diag([4.0, 0, 0]), [True, False, False], 10),  # 4 edges an atom of the chain, and 2
        ([9, 9, 0], np.diag([3e3, 3e3, 30.0]), [True] * 3, 2),
        ([9, 9, 0], np.diag([3e3, 3e3, 0.0]), [True, True, False], 2),
    ],
)
def test_far_apart_atoms_cost_neither_memory_nor_the_process(third, cell, pbc, n_edges):
    assert neighbor_list(one([[0, 0, 0], [1, 0, 0], third], cell, pbc), 5.0).n_edges == n_edges


@settings(max_examples=40, deadline=None)
@given(batch=structures(), cutoff=cutoffs, other=st.lists(st.floats(-9, 9), min_size=9, max_size=9))
def test_vectors_without_periodicity_do_not_matter(batch, cutoff, other):
    assume(certain(batch, cutoff))
    cell = np.where(batch.pbc[0][:, None], batch.cell[0], np.reshape(other, (3, 3)))
    changed = one(batch.positions, cell, batch.pbc[0])
    assert vectors_of(neighbor_list(changed, cutoff), changed) == vectors_of(neighbor_list(batch, cutoff), batch)


@settings(max_examples=50, deadline=None)
@given(edge=st.floats(0.15, 1.0), n_cutoff=st.integers(1, 8))
@example(edge=0.15, n_cutoff=8)
def test_counts_the_images_of_a_cell_much_smaller_than_the_cutoff(edge, n_cutoff):
    batch = one(np.zeros((1, 3)), np.eye(3) * edge, pbc=True)
    cube = np.arange(-n_cutoff - 1, n_cutoff + 2) ** 2
    squared = cube[:, None, None] + cube[:, None] + cube
    assert neighbor_list(batch, (n_cutoff + 1e-3) * edge).n_edges == np.sum(squared <= n_cutoff**2) - 1


def test_edges_lie_together_by_structure():
    dimer = one([[0, 0, 0], [1, 0, 0]], NO_CELL, pbc=False)
    nothing = one([], NO_CELL, pbc=True)
    lone = one([[7, 8, 9]], NO_CELL, pbc=False)
    chain = one([[0, 0, 0]], np.diag([2, 0, 0]), pbc=np.array([True, False, False]))
    found = neighbor_list(concatenate([dimer, nothing, lone, chain]), 2.5)
    assert found.offsets.tolist() == [0, 2, 2, 2, 4]
    assert found.counts.tolist() == [2, 0, 0, 2]
    assert found.structure_index.tolist() == [0, 0, 3, 3]
    assert found.i.tolist() == [0, 1, 3, 3]
    assert found.shifts[2:, 0].tolist() == [-1, 1]


def test_a_batch_of_no_structures_has_no_edges():
    found = neighbor_list(StructureBatch.from_atoms([]), 3.0)
    assert found.n_edges == 0
    assert found.offsets.tolist() == [0]


def test_atoms_in_one_place_are_neighbours_but_not_of_themselves():
    assert keys(neighbor_list(one(np.zeros((2, 3)), NO_CELL, pbc=False), 1.0)) == [(0, 1, 0, 0, 0), (1, 0, 0, 0, 0)]


@pytest.mark.parametrize("cutoff", [0.0, -1.0, np.nan, np.inf])
def test_refuses_a_cutoff_that_is_not_positive(cutoff):
    with pytest.raises(ValueError, match="cutoff"):
        neighbor_list(one([[0, 0, 0]], np.eye(3), pbc=True), cutoff)


@pytest.mark.parametrize(("coordinate", "problem"), [(np.nan, "finite"), (np.inf, "finite"), (2e9, "from the origin")])
def test_refuses_coordinates_that_mean_nothing(coordinate, problem):
    good = one([[0, 0, 0]], np.eye(3), pbc=True)
    bad = one([[0, coordinate, 0]], np.eye(3), pbc=True)
    with pytest.raises(ValueError, match=f"structure 1 .*{problem}"):
        neighbor_list(concatenate([good, bad]), 2.0)


@pytest.mark.parametrize(
    ("cell", "pbc", "problem"),
    [
        (NO_CELL, [True, True, True], "no lattice vector"),
        (np.diag([3.0, 3.0, 0.0]), [False, True, True], "no lattice vector"),
        (np.ones((3, 3)), [True, True, True], "dependent"),
        (np.ones((3, 3)), [True, True, False], "dependent"),
        (np.diag([1.0, 1.0, np.nan]), [True, True, True], "finite"),
    ],
)
def test_refuses_a_cell_that_does_not_span_the_periodic_directions(cell, pbc, problem):
    with pytest.raises(ValueError, match=f"structure 0.*{problem}"):
        neighbor_list(one([[0, 0, 0]], cell, np.array(pbc)), 2.0)


def test_completed_cell_stands_across_the_periodic_directions():
    cell = np.array([[3.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 2.0, 4.0]])
    completed = completed_cell(cell, np.array([True, False, True]))
    np.testing.assert_array_equal(completed[[0, 2]], cell[[0, 2]])
    np.testing.assert_allclose(completed[[0, 2]] @ completed[1], 0, atol=1e-12)
    assert np.linalg.norm(completed[1]) == pytest.approx(1)


@settings(max_examples=50, deadline=None)
@given(batch=structures(8), cutoff=cutoffs, skin=st.floats(0.01, 1.0), seed=st.integers(0, 99))
def test_a_list_with_a_skin_holds_the_edges_of_moved_atoms(batch, cutoff, skin, seed):
    steps = np.random.default_rng(seed).uniform(-1, 1, (batch.n_atoms, 3))
    moved = one(batch.positions + steps * (skin / 2 / np.sqrt(3)), batch.cell[0], batch.pbc[0])
    assume(certain(moved, cutoff))
    found, fresh = within(neighbor_list(batch, cutoff + skin), moved, cutoff), neighbor_list(moved, cutoff)
    assert found.cutoff == cutoff
    assert vectors_of(found, moved) == vectors_of(fresh, moved)
    np.testing.assert_array_equal(found.i, fresh.i)
    np.testing.assert_array_equal(found.offsets, fresh.offsets)


def capped(found: NeighborList, batch: StructureBatch, cap: NeighborCap) -> list[tuple[int, ...]]:
    """The rule of `NeighborCap`, atom by atom."""
    kept = []
    squared = (found.vectors(batch) ** 2).sum(1)
    for atom in range(batch.n_atoms):
        edges = [edge for edge in range(found.n_edges) if found.i[edge] == atom]
        nearest_first = sorted(edges, key=lambda edge: squared[edge])
        if len(edges) > cap.nearest and cap.whole_shells:
            reach = squared[nearest_first[cap.nearest]] + SHELL_WIDTH
            kept += [edge for edge in edges if squared[edge] <= reach]
        else:
            kept += nearest_first[: cap.nearest]
    all_keys = keys(found)
    return [all_keys[edge] for edge in sorted(kept)]


@settings(max_examples=50, deadline=None)
@given(batch=structures(8), cutoff=cutoffs, nearest=st.integers(1, 30), whole_shells=st.booleans())
def test_caps_keep_what_their_rule_says(batch, cutoff, nearest, whole_shells):
    cap = NeighborCap(nearest, whole_shells)
    # on whole numbers many neighbours are equally far away
    grid = one(np.round(batch.positions), np.round(batch.cell[0]), batch.pbc[0])
    spans = np.linalg.matrix_rank(grid.cell[0][grid.pbc[0]]) == grid.pbc.sum()
    for crystal in (batch, grid) if spans else (batch,):
        found = neighbor_list(crystal, cutoff)
        assume(found.n_edges < 3000)
        kept = nearest_neighbors(found, crystal, cap)
        assert keys(kept) == capped(found, crystal, cap)
        assert kept.offsets.tolist() == [0, kept.n_edges]
        assert kept.cutoff == cutoff


@pytest.mark.parametrize(
    ("cell", "cutoff", "nearest", "strict", "whole"),
    [
        # shells of 12, 6, 24, 12 and 24 atoms: 78 within 6 Å
        (3.61 * FCC, 6.0, 50, 50, 54),
        (3.61 * FCC, 6.0, 42, 42, 54),
        (3.61 * FCC, 6.0, 41, 41, 42),
        (3.61 * FCC, 6.0, 77, 77, 78),
        (3.61 * FCC, 6.0, 78, 78, 78),
        (3.61 * FCC, 6.0, 200, 78, 78),
        # shells of 6, 12, 8, 6 and 24 atoms
        (2.0 * np.eye(3), 4.6, 20, 20, 26),
        (2.0 * np.eye(3), 4.6, 6, 6, 18),
        (2.0 * np.eye(3), 4.6, 5, 5, 6),
        (2.0 * np.eye(3), 4.6, 56, 56, 56),
    ],
)
def test_shells_of_crystals(cell, cutoff, nearest, strict, whole):
    two = concatenate([one(np.zeros((1, 3)), cell, pbc=True), one([[0.0] * 3, [0.7, 0, 0]], NO_CELL, pbc=False)])
    found = neighbor_list(two, cutoff)
    for whole_shells, count in ((False, strict), (True, whole)):
        kept = nearest_neighbors(found, two, NeighborCap(nearest, whole_shells))
        assert kept.counts.tolist() == [count, 2]
        stay = set(keys(kept))
        assert keys(kept) == [key for key in keys(found) if key in stay]


@pytest.mark.parametrize("whole_shells", [False, True])
def test_a_cap_nobody_reaches_changes_nothing(whole_shells):
    batch = one([[0, 0, 0], [1, 0, 0], [0, 1, 0]], NO_CELL, pbc=False)
    found = neighbor_list(batch, 3.0)
    assert nearest_neighbors(found, batch, NeighborCap(2, whole_shells)) is found
    nothing = one([], NO_CELL, pbc=False)
    assert nearest_neighbors(neighbor_list(nothing, 3.0), nothing, NeighborCap(1, whole_shells)).n_edges == 0


@pytest.mark.parametrize("nearest", [0, -3])
def test_refuses_a_cap_that_leaves_nothing(nearest):
    with pytest.raises(ValueError, match="leaves none"):
        NeighborCap(nearest, whole_shells=True)

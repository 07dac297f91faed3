from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from hypothesis import given
from hypothesis import strategies as st

from mlipbench.budget import BatchBudget
from mlipbench.plan.batches import batch_cost, cut_batches, occupied_density
from mlipbench.structures import StructureBatch


def greedy(cost: list[int], limit: int) -> list[int]:
    """Fill batches one structure at a time; no cut of consecutive structures needs fewer batches."""
    bounds, spent = [0], 0
    for i, one in enumerate(cost):
        if i > bounds[-1] and spent + one > limit:
            bounds.append(i)
            spent = 0
        spent += one
    return [*bounds, len(cost)] if cost else [0]


@given(st.lists(st.integers(0, 50), max_size=60), st.integers(1, 100))
def test_cuts_are_a_partition_within_the_limit_in_as_few_batches_as_can_be(cost: list[int], limit: int) -> None:
    bounds = cut_batches(np.array(cost, dtype=np.int64), limit).tolist()
    assert bounds[0] == 0
    assert bounds[-1] == len(cost)
    for start, stop in pairwise(bounds):
        assert stop > start
        assert sum(cost[start:stop]) <= limit or stop == start + 1
    assert len(bounds) == len(greedy(cost, limit))


@pytest.mark.parametrize(
    ("cost", "limit", "bounds"),
    [
        ([4, 4, 4], 8, [0, 2, 3]),
        ([4, 4, 4], 7, [0, 1, 2, 3]),
        ([9, 1, 1], 4, [0, 1, 3]),
        ([1, 9, 1], 4, [0, 1, 2, 3]),
        ([3], 3, [0, 1]),
        ([], 5, [0]),
        ([1] * 5, 2, [0, 2, 4, 5]),
    ],
)
def test_cuts_by_hand(cost: list[int], limit: int, bounds: list[int]) -> None:
    assert cut_batches(np.array(cost, dtype=np.int64), limit).tolist() == bounds


def density(*frames: Atoms) -> list[float]:
    return occupied_density(StructureBatch.from_atoms(list(frames))).tolist()


def test_density_of_a_bulk_crystal_is_atoms_over_volume() -> None:
    assert density(bulk("Cu", "fcc", a=3.6, cubic=True)) == pytest.approx([4 / 3.6**3])


def test_density_of_a_slab_leaves_out_the_vacuum() -> None:
    # layers at z = 5 and 7 in a cell of 20: 2 + 1 + 1 of these 20 are occupied; the plane is filled
    slab = Atoms("Cu4", [[0, 0, 5], [2, 0, 5], [0, 2, 7], [2, 2, 7]], cell=[4, 4, 20], pbc=[True, True, False])
    slab.positions[1:] += [[0, 2, 0], [0, 0, 0], [0, 0, 0]]
    assert density(slab) == pytest.approx([4 / (4 * 4 * 4)])


def test_density_of_a_slab_with_three_periodic_directions_is_the_same() -> None:
    slab = Atoms("Cu4", [[0, 0, 5], [2, 2, 5], [0, 2, 7], [2, 2, 7]], cell=[4, 4, 20], pbc=True)
    assert density(slab) == pytest.approx([4 / (4 * 4 * 4)])


def test_density_of_a_molecule_without_a_cell_is_that_of_the_box_around_it() -> None:
    dimer = Atoms("N2", [[1, 1, 1], [1, 1, 2.5]])
    assert density(dimer) == pytest.approx([2 / (2 * 2 * 3.5)])


def test_density_of_a_molecule_does_not_depend_on_its_box() -> None:
    alone = molecule("H2O")
    boxed = molecule("H2O", cell=[30, 40, 50], pbc=True)
    boxed.center()
    assert density(boxed) == pytest.approx(density(alone))


def test_density_in_a_skewed_cell() -> None:
    # lattice planes along the third vector are 10 apart; one of z = 0 and one of z = 3: 5 of these 10 are occupied
    atoms = Atoms("Cu2", [[0, 0, 0], [1.5, 1.5, 3]], cell=[[3, 0, 0], [0, 3, 0], [5, 5, 10]], pbc=True)
    sheared = occupied_density(StructureBatch.from_atoms([atoms]))[0]
    scaled = atoms.get_scaled_positions(wrap=False)
    widths = 1 / np.linalg.norm(np.linalg.inv(atoms.cell.array), axis=0)
    share = np.minimum(np.ptp(scaled, axis=0) + 2 / widths, 1)
    assert share[2] == pytest.approx(0.5)
    assert sheared == pytest.approx(2 / (90 * share.prod()))


def test_density_of_a_sheet_whose_third_vector_is_missing() -> None:
    sheet = Atoms("C2", [[0, 0, 0], [1.2, 1.2, 0]], cell=[[2.4, 0, 0], [0, 2.4, 0], [0, 0, 0]], pbc=[True, True, False])
    assert density(sheet) == pytest.approx([2 / (2.4 * 2.4 * 2)])


def test_density_of_unlike_structures_together_is_that_of_each_alone() -> None:
    frames = [bulk("Cu", cubic=True), Atoms("H"), molecule("CH4")]
    assert density(*frames) == pytest.approx([density(frame)[0] for frame in frames])


def test_density_of_one_atom_is_one_in_a_cube_of_two() -> None:
    assert density(Atoms("H")) == pytest.approx([1 / 8])


COUNTS = np.array([4, 10])
DENSITY = np.array([0.1, 0.05])


def test_cost_in_structures_is_one_each() -> None:
    cost, limit = batch_cost(BatchBudget(structures=7), COUNTS, DENSITY, None)
    assert (cost.tolist(), limit) == ([1, 1], 7)


def test_cost_in_atoms_is_their_number() -> None:
    cost, limit = batch_cost(BatchBudget(atoms=50), COUNTS, DENSITY, None)
    assert (cost.tolist(), limit) == ([4, 10], 50)


def test_cost_in_edges_is_that_of_a_uniform_density() -> None:
    # neighbours within 6: 0.1 * 904.779 = 90.478 and 0.05 * 904.779 = 45.239
    cost, limit = batch_cost(BatchBudget(edges=1000), COUNTS, DENSITY, 6.0)
    assert (cost.tolist(), limit) == ([362, 453], 1000)


@pytest.mark.parametrize("given", [{}, {"atoms": 1, "edges": 1}, {"atoms": 0}, {"edges": -1}, {"atom": 3}])
def test_budget_has_exactly_one_positive_limit(given: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"validation error"):
        BatchBudget.model_validate(given)

"""Errors of relaxations against hand computation, a plain double loop and ASE's nearest images."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ase.geometry import find_mic
from hypothesis import given, settings
from hypothesis import strategies as st

from mlipbench.metrics.definition import evaluate
from mlipbench.metrics.relaxation import (
    DISTANCE_THRESHOLDS,
    RELAXATION_METRICS,
    RelaxationErrors,
    adsorbate_heights,
    displacement_sums,
    displacements,
)
from mlipbench.structures import StructureBatch


def columns(n: int, **given_columns: Any) -> RelaxationErrors:
    fields = {name: np.full(n, np.nan) for name in RelaxationErrors.__dataclass_fields__}
    fields |= {"n_atoms": np.full(n, 4), "n_free": np.full(n, 2)}
    return RelaxationErrors(**(fields | {name: np.asarray(values) for name, values in given_columns.items()}))


def value(name: str, found: RelaxationErrors) -> float | None:
    return evaluate(RELAXATION_METRICS[name], found, np.arange(len(found.n_atoms))).value


def test_energy_metrics_are_those_of_a_hand_computation() -> None:
    found = columns(5, energy_error=[0.01, -0.03, 0.02, -0.019, np.nan])
    assert value("energy_mae", found) == pytest.approx(0.079 / 4)
    assert value("energy_mse", found) == pytest.approx((0.0001 + 0.0009 + 0.0004 + 0.000361) / 4)
    assert value("energy_within_threshold", found) == pytest.approx(2 / 4)  # 0.02 itself is not within


def test_there_are_490_thresholds_from_ten_to_499_thousandths() -> None:
    assert len(DISTANCE_THRESHOLDS) == 490
    np.testing.assert_allclose(DISTANCE_THRESHOLDS, [k / 1000 for k in range(10, 500)], atol=1e-12)


@pytest.mark.parametrize(
    ("distance", "kept"),
    [(0.0, 490), (0.0099, 490), (0.0105, 489), (0.2505, 249), (0.4985, 1), (0.4995, 0), (3.0, 0)],
)
def test_one_structure_is_within_the_thresholds_above_its_distance(distance: float, kept: int) -> None:
    # below 0.011, 0.012 ... 0.499 are 489 thresholds; above 0.2505 come 0.251 ... 0.499, which are 249
    assert value("average_distance_within_threshold", columns(1, displacement_mean=[distance])) == kept / 490


@given(st.lists(st.one_of(st.floats(0, 0.6), st.sampled_from(DISTANCE_THRESHOLDS)), min_size=1, max_size=30))
@settings(max_examples=50, deadline=None)
def test_adwt_is_that_of_a_plain_double_loop(distances: list[float]) -> None:
    total = 0.0
    for beta in np.arange(0.01, 0.5, 0.001):
        below = 0
        for distance in distances:
            if distance < beta:
                below += 1
        total += below / len(distances)
    found = value("average_distance_within_threshold", columns(len(distances), displacement_mean=distances))
    assert found == pytest.approx(total / 490, abs=1e-12)


def test_other_metrics_are_those_of_a_hand_computation() -> None:
    found = columns(
        3, displacement_abs_sum=[0.6, 1.2, np.nan], n_free=[2, 1, 0], steps=[3, 300, 12], converged=[1.0, 0.0, 1.0]
    )
    assert value("positions_mae", found) == pytest.approx((0.6 + 1.2) / 9)
    assert value("steps", found) == pytest.approx(105.0)
    assert value("converged", found) == pytest.approx(2 / 3)


def structures(cells: list[Any], pbc: list[Any], counts: list[int]) -> StructureBatch:
    n = sum(counts)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    return StructureBatch(np.ones(n), np.zeros((n, 3)), np.array(cells), np.array(pbc), offsets)


def test_an_atom_that_crossed_the_cell_is_as_near_as_its_image() -> None:
    batch = structures([np.diag([4.0, 5.0, 20.0])], [[True, True, False]], [2])
    reference = np.array([[0.1, 0.2, 1.0], [3.9, 4.0, 18.0]])
    moved = np.array([[3.9, 0.2, 1.0], [3.9, 4.5, 3.0]])
    expected = [[-0.2, 0.0, 0.0], [0.0, 0.5, -15.0]]  # along z there are no images
    np.testing.assert_allclose(displacements(batch, moved, reference), expected, atol=1e-12)


SKEW = [[4.0, 0.0, 0.0], [1.5, 4.5, 0.0], [0.5, -1.0, 12.0]]


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_displacements_are_those_of_ase(seed: int) -> None:
    rng = np.random.default_rng(seed)
    cells = [SKEW, np.diag([7.0, 6.0, 20.0]), np.zeros((3, 3)), [*SKEW[:2], [0.0, 0.0, 0.0]]]
    pbc = [[True] * 3, [True, True, False], [False] * 3, [True, True, False]]
    batch = structures(cells, pbc, [5, 4, 3, 6])
    reference = rng.uniform(-3, 9, (18, 3))
    shift = rng.uniform(-0.9, 0.9, (18, 3))  # Å; less than half of every height of these cells
    images = rng.integers(-2, 3, (18, 3)) * batch.pbc[batch.structure_index]
    moved = reference + shift + np.einsum("ni,nij->nj", images, batch.cell[batch.structure_index])
    found = displacements(batch, moved, reference)
    for i in range(4):
        atoms = slice(batch.offsets[i], batch.offsets[i + 1])
        periodic = batch.pbc[i].any()
        nearest = find_mic((moved - reference)[atoms], batch.cell[i], batch.pbc[i])[0] if periodic else shift[atoms]
        np.testing.assert_allclose(found[atoms], nearest, atol=1e-9)


def test_heights_are_those_above_the_mean_of_the_surface() -> None:
    tilted = [[3.0, 0.0, 0.0], [0.0, 3.0, 3.0], [0.0, 0.0, 20.0]]  # the normal of the first two is (0, -1, 1) / √2
    batch = StructureBatch(
        numbers=np.ones(9),
        positions=np.zeros((9, 3)),
        cell=np.array([np.diag([3.0, 3.0, 20.0]), tilted, np.diag([3.0, 3.0, 20.0])]),
        pbc=np.ones((3, 3)),
        offsets=[0, 5, 7, 9],
        tags=[0, 1, 1, 2, 2, 1, 2, 0, 1],
    )
    positions = np.zeros((9, 3))
    positions[:5, 2] = [0.0, 4.0, 5.0, 7.5, 6.0]
    positions[5:7] = [[0.0, 1.0, 1.0], [1.0, 0.0, 2.0]]
    expected = [1.5, 2 / np.sqrt(2), np.nan]  # 6.0 above 4.5; (0, -1, 1) along the normal; no adsorbate
    np.testing.assert_allclose(adsorbate_heights(batch, positions), expected)
    bare = StructureBatch(batch.numbers, batch.positions, batch.cell, batch.pbc, batch.offsets)
    assert np.isnan(adsorbate_heights(bare, positions)).all()
    found = columns(3, adsorbate_height=[1.5, -0.5, np.nan])
    assert value("adsorbate_height", found) == pytest.approx(0.5)


def test_sums_count_free_atoms_only() -> None:
    displaced = np.array([[3.0, 4.0, 0.0], [0.0, 0.0, -1.0], [9.0, 9.0, 9.0], [7.0, 7.0, 7.0]])
    free = np.array([True, True, False, False])
    mean, absolute = displacement_sums(displaced, free, np.array([0, 0, 0, 1]), 2)
    np.testing.assert_allclose(mean, [3.0, np.nan])
    np.testing.assert_allclose(absolute, [8.0, np.nan])

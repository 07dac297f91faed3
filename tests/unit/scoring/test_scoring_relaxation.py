"""Score columns of relaxations, worked out by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mlipbench.datasets.writer import ColumnarWriter
from mlipbench.scoring.conversion import EnergyShift
from mlipbench.scoring.relaxation import score_relaxed
from mlipbench.scoring.treatment import Treatment
from mlipbench.store.predictions import PredictionBlock, State
from mlipbench.structures import StructureBatch
from mlipbench.structures.columnar import Labels, Split

if TYPE_CHECKING:
    from pathlib import Path

PLAIN = Treatment(free_atoms_only=False)
# three structures in cubes of 10 Å: two atoms of which the first is fixed, one fixed atom, two atoms of which one fails
FIXED = [True, False, True, False, False]
REFERENCE = np.array([[1.0, 1.0, 1.0], [2.0, 2.0, 2.0], [3.0, 3.0, 3.0], [4.0, 4.0, 4.0], [5.0, 5.0, 5.0]])


def split_of(folder: Path, labels: Labels, **columns: Any) -> Split:
    structures = StructureBatch(
        numbers=np.array([29, 8, 29, 29, 8]),
        positions=np.zeros((5, 3)),
        cell=np.tile(10.0 * np.eye(3), (3, 1, 1)),
        pbc=np.ones((3, 3)),
        offsets=[0, 2, 3, 5],
        **columns,
    )
    with ColumnarWriter(folder) as writer:
        writer.append(structures, labels)
    return Split(folder, "toy", "all")


def block() -> PredictionBlock:
    moved = REFERENCE + np.array([[0.5, 0.0, 0.0], [0.0, 0.3, -0.4], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    moved[1] += [10.0, -20.0, 0.0]
    moved[3:] = np.nan
    return PredictionBlock(
        offsets=np.array([0, 2, 3, 5]),
        columns={
            "energy": np.array([-7.0, -3.0, np.nan]),
            "positions": moved,
            "steps": np.array([12, 300, 0], dtype=np.int32),
            "converged": np.array([True, False, False]),
            "fmax": np.array([0.01, 0.4, np.nan]),
        },
        state=np.array([State.OK, State.OK, State.FAILED]),
        reasons={2: "worker died"},
    )


def test_columns_are_those_of_a_hand_computation(tmp_path: Path) -> None:
    labels = Labels(relaxed_energy=np.array([-7.5, -3.0, -9.0]), relaxed_positions=REFERENCE)
    scored = score_relaxed(split_of(tmp_path / "s", labels, fixed=FIXED), block(), 0, PLAIN)
    found, applicable = scored.errors, scored.applicable
    np.testing.assert_array_equal(found.n_atoms, [2, 1, 2])
    np.testing.assert_array_equal(found.n_free, [1, 0, 2])
    np.testing.assert_allclose(found.energy_error, [0.5, 0.0, np.nan])
    np.testing.assert_allclose(found.displacement_mean, [0.5, np.nan, np.nan])  # the nearest image; fixed atoms aside
    np.testing.assert_allclose(found.displacement_abs_sum, [0.7, np.nan, np.nan])
    np.testing.assert_allclose(found.steps, [12, 300, np.nan])
    np.testing.assert_allclose(found.converged, [1.0, 0.0, np.nan])
    np.testing.assert_array_equal(applicable, [True, True, False])


def test_all_atoms_are_free_where_none_is_said_to_be_fixed(tmp_path: Path) -> None:
    found = score_relaxed(split_of(tmp_path / "s", Labels(relaxed_positions=REFERENCE)), block(), 0, PLAIN).errors
    np.testing.assert_array_equal(found.n_free, [2, 1, 2])
    np.testing.assert_allclose(found.displacement_mean, [0.5, 0.0, np.nan])
    np.testing.assert_allclose(found.displacement_abs_sum, [1.2, 0.0, np.nan])
    assert np.isnan(found.energy_error).all()


def test_without_a_reference_there_is_nothing_to_compare(tmp_path: Path) -> None:
    found = score_relaxed(split_of(tmp_path / "s", Labels()), block(), 0, PLAIN).errors
    for column in (found.energy_error, found.displacement_mean, found.displacement_abs_sum, found.adsorbate_height):
        assert np.isnan(column).all()
    np.testing.assert_allclose(found.steps, [12, 300, np.nan])


def test_shift_and_correction_meet_relaxed_energies(tmp_path: Path) -> None:
    labels = Labels(relaxed_energy=np.array([-7.5, -3.0, -9.0]))
    shift = EnergyShift(np.array([8, 29]), np.array([0.25, -1.0]), np.eye(2), n_structures=9, rmse=0.0)
    treatment = Treatment(free_atoms_only=False, shift=shift, label_correction=np.array([0.5, 0.5, 0.5]))
    scored = score_relaxed(split_of(tmp_path / "s", labels), block(), 0, treatment)
    found, applicable = scored.errors, scored.applicable
    # -7 + 0.25 - 1 against -7.5 + 0.5, and -3 - 1 against -3 + 0.5
    np.testing.assert_allclose(found.energy_error, [-0.75, -1.5, np.nan])
    np.testing.assert_array_equal(applicable, [True, True, False])

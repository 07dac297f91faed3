from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlipbench.datasets.references import ReferenceMap
from mlipbench.datasets.writer import ColumnarWriter
from mlipbench.errors import NothingSelectedError
from mlipbench.scoring.adsorption import AdsorptionReferences
from mlipbench.scoring.conversion import fit_shift, split_composition
from mlipbench.structures import StructureBatch
from mlipbench.structures.columnar import Labels, Split

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Make = Callable[[list[list[int]]], Split]


def written(folder: Path, structures: list[list[int]]) -> Split:
    counts = [len(numbers) for numbers in structures]
    n = len(structures)
    batch = StructureBatch(
        numbers=np.concatenate(structures),
        positions=np.zeros((sum(counts), 3)),
        cell=np.zeros((n, 3, 3)),
        pbc=np.zeros((n, 3), dtype=bool),
        offsets=np.concatenate([[0], np.cumsum(counts)]),
    )
    with ColumnarWriter(folder) as writer:
        writer.append(batch, Labels(np.zeros(n)))
    return Split(folder, "toy", "fit")


@pytest.fixture
def split(tmp_path: Path) -> Make:
    return lambda structures: written(tmp_path / "split", structures)


def everything(n: int) -> np.ndarray:
    return np.ones(n, dtype=bool)


def test_two_elements_are_solved_by_hand(split: Make) -> None:
    # label - prediction: H2 2, O2 6, H2O 5, so that H is 1 and O is 3 exactly
    data = split([[1, 1], [8, 8], [1, 1, 8]])
    shift = fit_shift(data, np.array([-4.0, 0.0, 1.0]), np.array([-6.0, -6.0, -4.0]), everything(3))
    assert shift.elements.tolist() == [1, 8]
    assert shift.energies == pytest.approx([1.0, 3.0], abs=1e-12)
    assert shift.rmse == pytest.approx(0.0, abs=1e-12)
    assert shift.as_dict("fit")["ev_per_atom"] == pytest.approx({"H": 1.0, "O": 3.0})


def test_contradictory_structures_get_the_least_squares_answer(split: Make) -> None:
    # one element, one atom each: the mean of 1, 2 and 6 is 3, and what is left is -2, -1 and 3
    data = split([[29], [29], [29]])
    shift = fit_shift(data, np.array([1.0, 2.0, 6.0]), np.zeros(3), everything(3))
    assert shift.energies == pytest.approx([3.0])
    assert shift.rmse == pytest.approx(np.sqrt(14 / 3))
    assert shift.n_structures == 3


def test_undetermined_elements_get_the_smallest_norm_and_only_their_span(split: Make) -> None:
    # only MgO: Mg + O is 5, so that the smallest answer is 2.5 each
    data = split([[12, 8], [12, 12, 8, 8]])
    shift = fit_shift(data, np.array([5.0, 10.0]), np.zeros(2), everything(2))
    assert shift.energies == pytest.approx([2.5, 2.5])
    values, known = shift.apply(np.array([[3.0, 3.0], [1.0, 0.0], [2.0, 1.0]]), np.zeros(3, dtype=bool))
    assert values[0] == pytest.approx(15.0)
    assert known.tolist() == [True, False, False]


def test_foreign_elements_have_no_shift(split: Make) -> None:
    shift = fit_shift(split([[1]]), np.array([1.0]), np.zeros(1), everything(1))
    _, known = shift.apply(np.array([[1.0], [1.0]]), np.array([False, True]))
    assert known.tolist() == [True, False]


def test_structures_without_label_or_prediction_are_left_out(split: Make) -> None:
    data = split([[1], [1], [1]])
    labels, predictions = np.array([7.0, np.nan, 2.0]), np.array([np.nan, 0.0, 0.0])
    shift = fit_shift(data, labels, predictions, np.array([False, True, True]))
    assert shift.energies == pytest.approx([2.0])
    assert shift.n_structures == 1


def test_fit_to_nothing_is_refused(split: Make) -> None:
    with pytest.raises(NothingSelectedError, match="toy/fit"):
        fit_shift(split([[1]]), np.zeros(1), np.zeros(1), np.zeros(1, dtype=bool))


@given(seed=st.integers(0, 2**32 - 1), pieces=st.booleans())
@settings(max_examples=25, deadline=None)
def test_fit_is_that_of_numpy_s_solver_whatever_the_order(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    pieces: bool,
) -> None:
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 4, (12, 4))
    counts[:, 3] = counts[:, 0] + counts[:, 1]  # never determined on their own
    counts[:, 2] += 1
    target = rng.normal(size=12)
    expected, *_ = np.linalg.lstsq(counts.astype(float), target, rcond=None)
    elements = np.array([1, 6, 8, 29])
    for order in (np.arange(12), rng.permutation(12)):
        structures = [np.repeat(elements, row).tolist() for row in counts[order]]
        data = written(tmp_path_factory.mktemp("split"), structures)
        if pieces:
            data.chunks = lambda: ((i, i + 1) for i in range(12))  # type: ignore[method-assign,assignment,misc]
        shift = fit_shift(data, target[order], np.zeros(12), everything(12))
        present = np.isin(elements, shift.elements)
        assert shift.energies == pytest.approx(expected[present], abs=1e-9)
        left = target - counts @ expected
        assert shift.rmse == pytest.approx(np.sqrt(np.mean(left**2)), abs=1e-9)


def test_composition_counts_atoms_and_names_foreign_structures() -> None:
    numbers = np.array([1, 1, 8, 29, 8, 1])
    owner = np.array([0, 0, 0, 1, 1, 3])
    counts, foreign = split_composition(numbers, owner, np.array([1, 8]), 4)
    assert counts.tolist() == [[2, 1], [0, 1], [0, 0], [1, 0]]
    assert foreign.tolist() == [False, True, False, False]


def test_adsorption_errors_by_hand() -> None:
    # references: slab (label -10, predicted -9), H2 (label -6, predicted -7), CO (not predicted)
    # structure 0: slab + H, E - slab - H2 / 2; structure 1: slab + CO; structure 2: without references
    references = ReferenceMap("refs", np.array([0, 2, 4, 4]), np.array([0, 1, 0, 2]), np.array([1.0, 0.5, 1.0, 1.0]))
    own = AdsorptionReferences(references, np.array([-10.0, -6.0, -14.0]), np.array([-9.0, -7.0, np.nan]))
    # label -14: E_ads = -14 + 10 + 3 = -1; predicted -13: -13 + 9 + 3.5 = -0.5
    errors = own.errors(np.array([1.0, 0.3, 0.2]), 0)
    assert errors[0] == pytest.approx(0.5)
    assert np.isnan(errors[1:]).all()


def test_adsorption_errors_of_a_later_block_use_its_own_references() -> None:
    references = ReferenceMap("refs", np.array([0, 1, 2, 3]), np.array([0, 1, 1]), np.array([1.0, 1.0, 2.0]))
    own = AdsorptionReferences(references, np.array([0.0, 0.0]), np.array([10.0, 1.0]))
    assert own.errors(np.array([5.0, 5.0]), 1) == pytest.approx([4.0, 3.0])
    assert own.errors(np.array([5.0]), 0) == pytest.approx([-5.0])

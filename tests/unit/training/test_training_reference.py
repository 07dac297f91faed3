"""Reference energies against values by hand."""

from __future__ import annotations

import numpy as np
import pytest

from mlipbench.recipe import ReferenceKind
from mlipbench.structures import StructureBatch
from mlipbench.training.reference import fit_reference, reference_energies


def of(*formulas: list[int]) -> StructureBatch:
    counts = [len(formula) for formula in formulas]
    return StructureBatch(
        numbers=np.array([number for formula in formulas for number in formula]),
        positions=np.zeros((sum(counts), 3)),
        cell=np.zeros((len(formulas), 3, 3)),
        pbc=np.zeros((len(formulas), 3)),
        offsets=np.concatenate([[0], np.cumsum(counts)]),
    )


def test_none_subtracts_nothing() -> None:
    values = fit_reference(ReferenceKind.NONE, of([1], [8]), np.array([-1.0, -5.0]))
    assert reference_energies(values, of([1, 8])).tolist() == [0.0]


def test_mean_is_one_energy_for_all() -> None:
    values = fit_reference(ReferenceKind.MEAN, of([1], [8, 1]), np.array([-1.0, -5.0]))
    assert values.offset == -3.0
    assert reference_energies(values, of([8, 8, 8], [1])).tolist() == [-3.0, -3.0]


def test_elements_are_solved_for_where_compositions_differ() -> None:
    # H2 = 2h = -2, H2O = 2h + o = -7: h = -1, o = -5
    values = fit_reference(ReferenceKind.PER_ELEMENT, of([1, 1], [1, 1, 8]), np.array([-2.0, -7.0]))
    assert values.per_element == pytest.approx({1: -1.0, 8: -5.0})
    assert reference_energies(values, of([8, 1], [8, 8], [])) == pytest.approx([-6.0, -10.0, 0.0])


def test_contradicting_energies_are_met_in_the_middle() -> None:
    # one hydrogen of -1 and one of -2, two of -4: h = (1 * -1 + 1 * -2 + 2 * -4) / (1 + 1 + 4)
    values = fit_reference(ReferenceKind.PER_ELEMENT, of([1], [1], [1, 1]), np.array([-1.0, -2.0, -4.0]))
    assert values.per_element == pytest.approx({1: -11.0 / 6.0})


def test_one_composition_gets_the_solution_of_smallest_norm() -> None:
    # n = (2, 1), energies -10 and -11, mean -10.5: e = n * -10.5 / (n . n) = (-4.2, -2.1)
    values = fit_reference(ReferenceKind.PER_ELEMENT, of([1, 1, 8], [8, 1, 1]), np.array([-10.0, -11.0]))
    assert values.per_element == pytest.approx({1: -4.2, 8: -2.1})


def test_an_element_it_has_not_seen_counts_as_zero() -> None:
    values = fit_reference(ReferenceKind.PER_ELEMENT, of([1]), np.array([-1.0]))
    assert reference_energies(values, of([1, 79])).tolist() == pytest.approx([-1.0])


def test_large_energies_keep_their_differences() -> None:
    energies = np.array([-4_209_612.125, -4_209_612.25])
    values = fit_reference(ReferenceKind.MEAN, of([1], [1]), energies)
    assert (energies - reference_energies(values, of([1], [1]))).tolist() == [0.0625, -0.0625]

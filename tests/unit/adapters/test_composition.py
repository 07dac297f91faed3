"""The composition floor."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from hypothesis import given, settings
from hypothesis import strategies as st

from mlipbench.adapters.composition import CompositionAdapter
from mlipbench.errors import ConfigError, DatasetError
from mlipbench.models.interface import LabelledBatch, LoadRequest, Property
from mlipbench.structures import StructureBatch

BOTH = frozenset({Property.ENERGY, Property.FORCES})


def batch_of(*formulas: str) -> StructureBatch:
    return StructureBatch.from_atoms([Atoms(f) for f in formulas])


def fitted(formulas: list[str], energies: list[float]) -> CompositionAdapter:
    parameters = CompositionAdapter.fit(LabelledBatch(batch_of(*formulas), np.array(energies)), {})
    return CompositionAdapter.load(LoadRequest(parameters=parameters))


def test_recovers_energies_of_elements_and_predicts_no_force():
    model = fitted(["H2", "H2O", "O2"], [-6.0, -15.0, -18.0])
    np.testing.assert_allclose(model.elements.energies, [-3.0, -9.0])
    found = model.predict(batch_of("HO", "H3"), BOTH)
    np.testing.assert_allclose(found.energy, [-12.0, -9.0])
    np.testing.assert_array_equal(found.forces, np.zeros((5, 3)))
    assert found.stress is None
    assert not found.not_applicable


def test_takes_the_solution_of_least_norm_and_covers_only_multiples_of_one_composition():
    model = fitted(["H2O", "H2O"], [-10.0, -20.0])
    np.testing.assert_allclose(model.elements.energies, [-6.0, -3.0])  # (2, 1) times -15 / (2² + 1²)
    found = model.predict(batch_of("H4O2", "H2O2", "H2"), BOTH)
    assert found.energy[0] == pytest.approx(-30.0)
    assert set(found.not_applicable) == {1, 2}
    assert np.isnan(found.energy[1:]).all()
    assert np.isnan(found.forces[6:]).all()
    assert not np.isnan(found.forces[:6]).any()


def test_an_element_the_fit_split_lacks_is_named():
    found = fitted(["H2"], [-6.0]).predict(batch_of("H2", "CHN"), BOTH)
    assert found.not_applicable == {1: "the fit split holds no C, N"}


@settings(max_examples=50, deadline=None)
@given(
    counts=st.lists(st.tuples(*[st.integers(0, 6)] * 3).filter(any), min_size=1, max_size=8),
    energies=st.tuples(*[st.floats(-2e5, 10)] * 3),
)
def test_whatever_was_fitted_is_covered_and_reproduced(counts, energies):
    formulas = ["".join(f"{s}{n}" for s, n in zip("HCO", row, strict=True) if n) for row in counts]
    labels = [float(np.dot(row, energies)) for row in counts]
    found = fitted(formulas, labels).predict(batch_of(*formulas), frozenset({Property.ENERGY}))
    assert not found.not_applicable
    np.testing.assert_allclose(found.energy, labels, rtol=1e-10, atol=1e-6)


def test_refuses_an_empty_split_and_energies_that_are_not_finite():
    with pytest.raises(DatasetError, match="no atoms"):
        fitted([], [])
    with pytest.raises(DatasetError, match=r"structure 1: .*finite"):
        fitted(["H", "H"], [0.0, np.nan])


def test_refuses_arguments_and_missing_parameters():
    with pytest.raises(ConfigError, match="'cutoff'"):
        CompositionAdapter.load(LoadRequest(kwargs={"cutoff": 3}))
    with pytest.raises(ConfigError, match="fit the model"):
        CompositionAdapter.load(LoadRequest())


def test_an_empty_batch_gives_empty_arrays():
    found = fitted(["H2"], [-6.0]).predict(StructureBatch.from_atoms([]), BOTH)
    assert found.energy.shape == (0,)
    assert found.forces.shape == (0, 3)

import numpy as np
import pytest

from mlipbench.conformance.contract import check_predictions
from mlipbench.errors import WorkerError
from mlipbench.models.interface import Predictions, Property
from mlipbench.protocol import Message, ProtocolError
from mlipbench.worker.s2ef import asked_properties, drop_non_finite
from mlipbench.worker.session import WarmUp

EF = frozenset({Property.ENERGY, Property.FORCES})
EFS = frozenset(Property)


def good(**changes):
    return Predictions(**{"energy": np.zeros(3), "forces": np.zeros((6, 3)), "stress": np.zeros((3, 6)), **changes})


def test_good_predictions_pass(batch):
    check_predictions(batch, good(), EFS)
    check_predictions(batch, good(stress=None), EF)
    check_predictions(batch, good(stress="nobody asked"), EF)


@pytest.mark.parametrize(
    ("predictions", "line"),
    [
        (good(forces=np.zeros(3)), "forces have shape (3,), expected (6, 3)"),
        (good(energy=np.zeros((3, 1))), "energy has shape (3, 1), expected (3,)"),
        (good(stress=np.zeros((3, 3, 3))), "stress has shape (3, 3, 3), expected (3, 6)"),
        (good(forces=None), "forces are missing"),
        (good(energy=None), "energy is missing"),
        (good(forces=np.zeros((6, 3), dtype=np.float32)), "forces have dtype float32, expected float64"),
        (good(energy=[0.0, 0.0, 0.0]), "energy is a list, expected a numpy array"),
        ({"energy": 1}, "the adapter returned dict, expected Predictions"),
        (None, "the adapter returned NoneType, expected Predictions"),
    ],
)
def test_others_are_described(batch, predictions, line):
    with pytest.raises(WorkerError) as caught:
        check_predictions(batch, predictions, EFS)
    assert str(caught.value) == line


def test_finite_arrays_are_left_as_they_are(batch):
    arrays = {"energy": np.arange(3.0), "forces": np.ones((6, 3))}
    before = dict(arrays)
    ok, reasons = drop_non_finite(batch, arrays)
    assert ok.all()
    assert reasons == {}
    assert all(arrays[name] is before[name] for name in before)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("name", "index", "structure"),
    [("energy", 1, 1), ("forces", (5, 2), 2), ("forces", (0, 0), 0), ("stress", (1, 4), 1)],
)
def test_a_structure_with_one_bad_number_loses_all_its_numbers(batch, name, index, structure, value):
    arrays = {"energy": np.zeros(3), "forces": np.zeros((6, 3)), "stress": np.zeros((3, 6))}
    given = arrays[name]
    given[index] = value
    given.flags.writeable = False  # an adapter may hand out views
    ok, reasons = drop_non_finite(batch, arrays)
    assert reasons == {structure: f"non-finite {name}"}
    expected = np.arange(3) == structure
    np.testing.assert_array_equal(~ok, expected)
    np.testing.assert_array_equal(np.isnan(arrays["energy"]), expected)
    np.testing.assert_array_equal(np.isnan(arrays["stress"]).all(axis=1), expected)
    np.testing.assert_array_equal(np.isnan(arrays["forces"]).all(axis=1), expected[batch.structure_index])
    assert np.isnan(arrays["forces"]).sum() == 3 * batch.counts[structure]


def test_opposite_infinities_do_not_cancel(batch):
    ok, _ = drop_non_finite(batch, {"energy": np.array([np.inf, -np.inf, 0.0])})
    np.testing.assert_array_equal(ok, [False, False, True])


def test_huge_finite_numbers_are_fine(batch):
    ok, reasons = drop_non_finite(batch, {"energy": np.array([1e308, 1e308, 1e308])})
    assert ok.all()
    assert reasons == {}


@pytest.mark.parametrize("header", [{}, {"properties": None}, {"properties": ["charge"]}, {"properties": [[]]}])
def test_requests_name_known_properties(header):
    with pytest.raises(ProtocolError, match="names no known properties"):
        asked_properties(Message("predict", header))


def test_a_call_is_cold_at_first_and_at_every_new_size(batch):
    warm_up = WarmUp()
    two = batch.slice(0, 2)
    assert [warm_up.is_cold(part) for part in (two, two, two)] == [True, True, False]
    assert [warm_up.is_cold(part) for part in (batch, batch, two)] == [True, False, False]
    assert warm_up.is_cold(batch.select([0, 1, 1, 1]))  # more structures, not more atoms

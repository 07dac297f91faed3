import numpy as np
import pytest

from mlipbench.models.interface import LoadRequest, Property
from mlipbench.structures import StructureBatch
from mlipbench.testing import toys

EFS = frozenset(Property)


@pytest.fixture
def batch():
    rng = np.random.default_rng(3)
    return StructureBatch(
        numbers=[1, 8, 1, 6, 6],
        positions=rng.normal(size=(5, 3)),
        cell=[np.diag([3.0, 4.0, 5.0]) + 0.1, np.zeros((3, 3))],
        pbc=np.zeros((2, 3)),
        offsets=[0, 3, 5],
    )


def load(name, **kwargs):
    return getattr(toys, name).load(LoadRequest(kwargs=kwargs))


def moved(batch, positions, cell=None):
    columns = {**batch.columns(), "positions": positions}
    return StructureBatch(**(columns if cell is None else {**columns, "cell": cell}))


def gradient(adapter, batch, step=1e-5):
    """Minus the central difference of the total energy by every coordinate."""
    forces = np.zeros((batch.n_atoms, 3))
    for index in np.ndindex(forces.shape):
        energies = []
        for sign in (1, -1):
            positions = batch.positions.copy()
            positions[index] += sign * step
            energies.append(adapter.predict(moved(batch, positions), EFS).energy.sum())
        forces[index] = -(energies[0] - energies[1]) / (2 * step)
    return forces


def test_springs_are_conservative(batch):
    adapter = load("SpringAdapter", stiffness=2.5)
    np.testing.assert_allclose(adapter.predict(batch, EFS).forces, gradient(adapter, batch), atol=1e-8)


def test_springs_have_the_energy_known_by_hand():
    pair = StructureBatch([1, 1], [[0, 0, 0], [2, 0, 0]], np.zeros((1, 3, 3)), np.zeros((1, 3)), [0, 2])
    predictions = load("SpringAdapter", stiffness=3).predict(pair, EFS)
    assert predictions.energy == pytest.approx([3.0])  # 3/2 (1² + 1²)
    np.testing.assert_allclose(predictions.forces, [[3, 0, 0], [-3, 0, 0]])
    np.testing.assert_array_equal(predictions.stress, np.zeros((1, 6)))


def test_the_stress_of_springs_is_the_derivative_by_strain(batch):
    adapter, step = load("SpringAdapter"), 1e-6
    stress = adapter.predict(batch, EFS).stress[0]
    for column, (a, b) in enumerate([(0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)]):
        energies = []
        for sign in (1, -1):
            strain = np.eye(3)
            strain[a, b] += sign * step / 2
            strain[b, a] += sign * step / 2
            strained = moved(batch, batch.positions @ strain, batch.cell @ strain)
            energies.append(adapter.predict(strained, EFS).energy[0])
        volume = np.linalg.det(batch.cell[0])
        assert stress[column] == pytest.approx((energies[0] - energies[1]) / (2 * step) / volume, rel=1e-6)


def test_direct_forces_are_no_gradient(batch):
    adapter = load("DirectForcesAdapter")
    assert np.abs(adapter.predict(batch, EFS).forces - gradient(adapter, batch)).max() > 0.05


def test_liars_are_honest_without_their_element(batch):
    honest = load("SpringAdapter").predict(batch, EFS)
    for name in ("CrashAdapter", "HangAdapter", "NaNAdapter", "WrongShapeAdapter", "RaiseAdapter", "MemoryAdapter"):
        predictions = load(name, element=92).predict(batch, EFS)
        np.testing.assert_array_equal(predictions.energy, honest.energy)
        np.testing.assert_array_equal(predictions.forces, honest.forces)
        np.testing.assert_array_equal(predictions.stress, honest.stress)


def test_the_element_alone_decides(batch):
    forces = load("NaNAdapter", element=6).predict(batch, EFS).forces
    np.testing.assert_array_equal(np.isnan(forces).any(axis=1), [False, False, False, True, False])


def test_wrong_order_is_the_right_predictions_at_the_wrong_places(batch):
    right = load("SpringAdapter").predict(batch, EFS)
    wrong = load("WrongOrderAdapter").predict(batch, EFS)
    np.testing.assert_array_equal(wrong.energy, right.energy[::-1])
    np.testing.assert_array_equal(wrong.forces, right.forces[[3, 4, 0, 1, 2]])


def test_null_predicts_what_it_is_asked_for(batch):
    predictions = load("NullAdapter").predict(batch, frozenset({Property.ENERGY}))
    assert predictions.energy.shape == (2,)
    assert predictions.forces is predictions.stress is None

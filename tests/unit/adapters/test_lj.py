"""The fitted pair potential: formula, derivatives, symmetries, fit."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from hypothesis import given, settings
from hypothesis import strategies as st

from mlipbench.adapters.composition import ElementEnergies
from mlipbench.adapters.lj import LennardJonesAdapter, Range, pair_index
from mlipbench.errors import ConfigError, DatasetError
from mlipbench.models.interface import LabelledBatch, LoadRequest, Property
from mlipbench.structures import StructureBatch
from mlipbench.structures.neighbors import neighbor_list

ALL = frozenset(Property)
BOTH = frozenset({Property.ENERGY, Property.FORCES})
KWARGS = {"onset": 5.0, "cutoff": 7.0}
SIGMA = np.array([3.4, 3.5, 3.65])
EPSILON = np.array([0.010, 0.012, 0.014])


def truth() -> LennardJonesAdapter:
    a, b = 4 * EPSILON * SIGMA**12, 4 * EPSILON * SIGMA**6
    elements = ElementEnergies(np.array([18, 36]), np.array([-1.0, 3.0]), np.eye(2))
    return LennardJonesAdapter(Range(**KWARGS), elements, np.stack([a, -b], axis=1), np.ones(3, dtype=bool))


def frames(n: int, seed: int = 0) -> list[Atoms]:
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(n):
        atoms = bulk("Ar", cubic=True, a=5.3) * (2, 1, 1)
        atoms.numbers[rng.permutation(8)[: rng.integers(0, 8)]] = 36
        atoms.positions += rng.normal(0, 0.25, (8, 3))
        atoms.set_cell(atoms.cell.array + rng.normal(0, 0.3, (3, 3)))
        made.append(atoms)
    return made


def one(atoms: Atoms, properties: frozenset[Property] = ALL):
    return truth().predict(StructureBatch.from_atoms([atoms]), properties)


def test_a_dimer_has_the_energy_of_the_formula():
    for r, switch in ((3.8, 1.0), (5.0, 1.0), (6.0, 0.5), (7.0, 0.0), (9.0, 0.0)):
        x = (SIGMA[1] / r) ** 6
        expected = 2.0 + 4 * EPSILON[1] * (x * x - x) * switch
        assert one(Atoms("ArKr", [[0, 0, 0], [0, 0, r]]), BOTH).energy[0] == pytest.approx(expected, abs=1e-12)


def test_equals_the_calculator_of_ase_inside_the_onset():
    from ase.calculators.lj import LennardJones

    atoms = Atoms("Ar4", [[0, 0, 0], [3.4, 0, 0], [0, 3.5, 0.2], [0.3, 0, 3.6]])  # no distance beyond the onset
    found = one(atoms, BOTH)
    reference = LennardJones(sigma=SIGMA[0], epsilon=EPSILON[0], rc=1e3)
    atoms.calc = reference
    assert found.energy[0] + 4.0 == pytest.approx(atoms.get_potential_energy(), rel=1e-6)
    np.testing.assert_allclose(found.forces, atoms.get_forces(), atol=1e-9)


def test_forces_are_the_gradient():
    atoms, step = frames(1)[0], 1e-4
    forces = one(atoms).forces
    for i, k in np.ndindex(len(atoms), 3):
        moved = [atoms.copy(), atoms.copy()]
        moved[0].positions[i, k] -= step
        moved[1].positions[i, k] += step
        low, high = truth().predict(StructureBatch.from_atoms(moved), BOTH).energy
        assert forces[i, k] == pytest.approx(-(high - low) / (2 * step), abs=1e-7)


def test_the_stress_is_the_derivative_by_strain_in_a_left_handed_cell_too():
    atoms, step = frames(1, seed=4)[0], 1e-4
    mirrored = atoms.copy()
    mirrored.set_cell(atoms.cell.array[[2, 1, 0]])
    for original in (atoms, mirrored):
        stress = one(original).stress[0]
        for voigt, (a, b) in enumerate(((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))):
            energies = []
            for sign in (-1, 1):
                strain = np.zeros((3, 3))
                strain[a, b] += 0.5 * sign * step
                strain[b, a] += 0.5 * sign * step
                moved = original.copy()
                moved.set_cell(original.cell.array @ (np.eye(3) + strain), scale_atoms=True)
                energies.append(one(moved).energy[0])
            slope = (energies[1] - energies[0]) / (2 * step) / original.get_volume()
            assert stress[voigt] == pytest.approx(slope, abs=1e-8)


@pytest.mark.parametrize("border", [5.0, 7.0])
def test_energy_and_two_derivatives_are_continuous_at_onset_and_cutoff(border):
    span, step = Range(**KWARGS), 1e-6
    r = border + step * np.array([-1.0, 0.0, 1.0])
    values, slopes = span.powers(r)
    slopes = slopes * r[:, None]
    curvature_left, curvature_right = np.diff(slopes, axis=0) / step
    assert np.ptp(values, axis=0) == pytest.approx([0, 0], abs=1e-8)
    curvature = np.array([156.0, 42.0]) * border ** np.array([-14.0, -8.0])  # of the unsmoothed powers
    assert (np.abs(curvature_left - curvature_right) < 1e-3 * curvature).all()


@settings(max_examples=10, deadline=None)
@given(
    seed=st.integers(0, 1000),
    move=st.tuples(*[st.floats(-30, 30)] * 3),
    quaternion=st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: sum(x * x for x in q) > 0.1),
)
def test_symmetries(seed, move, quaternion):
    from scipy.spatial.transform import Rotation

    rng = np.random.default_rng(seed)
    atoms = frames(1, seed)[0]
    base = one(atoms)
    turn = Rotation.from_quat(quaternion).as_matrix()
    turned = atoms.copy()
    turned.positions = atoms.positions @ turn.T + move
    turned.set_cell(atoms.cell.array @ turn.T)
    order = rng.permutation(len(atoms))
    shifted = atoms[order]
    shifted.positions += rng.integers(-2, 3, (len(atoms), 3)) @ atoms.cell.array
    found = truth().predict(StructureBatch.from_atoms([turned, shifted]), ALL)
    np.testing.assert_allclose(found.energy, base.energy[0], rtol=1e-10)
    np.testing.assert_allclose(found.forces[:8], base.forces @ turn.T, atol=1e-9)
    np.testing.assert_allclose(found.forces[8:], base.forces[order], atol=1e-9)
    np.testing.assert_allclose(found.stress[1], base.stress[0], atol=1e-11)


def test_a_doubled_cell_has_twice_the_energy_and_the_same_forces_and_stress():
    atoms = frames(1)[0]
    base, double = one(atoms), one(atoms * (2, 1, 1))
    assert double.energy[0] == pytest.approx(2 * base.energy[0], rel=1e-12)
    np.testing.assert_allclose(double.forces, np.tile(base.forces, (2, 1)), atol=1e-11)
    np.testing.assert_allclose(double.stress, base.stress, atol=1e-13)


def test_the_result_does_not_depend_on_batch_mates_nor_change_the_inputs():
    many = [*frames(4), Atoms("Ar"), Atoms("Kr2", [[0, 0, 0], [0, 0, 4]])]
    batch = StructureBatch.from_atoms(many)
    before = batch.positions.copy()
    together = truth().predict(batch, BOTH)
    for s, atoms in enumerate(many):
        alone = one(atoms, BOTH)
        assert alone.energy[0] == pytest.approx(together.energy[s], rel=1e-13)
        np.testing.assert_allclose(alone.forces, together.forces[batch.offsets[s] : batch.offsets[s + 1]], atol=1e-13)
    np.testing.assert_array_equal(batch.positions, before)


def test_takes_a_longer_list_after_the_atoms_moved():
    atoms = frames(1)[0]
    skinned = neighbor_list(StructureBatch.from_atoms([atoms]), 8.0)
    atoms.positions += np.random.default_rng(1).uniform(-0.25, 0.25, (8, 3))
    batch = StructureBatch.from_atoms([atoms])
    model = truth()
    found, expected = model.forward(model.prepare(batch, skinned), ALL), model.predict(batch, ALL)
    np.testing.assert_allclose(found.forces, expected.forces, atol=1e-12)
    np.testing.assert_allclose(found.energy, expected.energy)


def fitted(batch: StructureBatch, energy, forces, kwargs=None) -> LennardJonesAdapter:
    kwargs = KWARGS if kwargs is None else kwargs
    parameters = LennardJonesAdapter.fit(LabelledBatch(batch, np.asarray(energy), forces), kwargs)
    assert all(np.isfinite(array).all() for array in parameters.values())
    return LennardJonesAdapter.load(LoadRequest(kwargs=kwargs, parameters=parameters))


@pytest.mark.parametrize("with_forces", [True, False])
def test_the_fit_recovers_a_pair_potential(with_forces):
    batch = StructureBatch.from_atoms(frames(60))
    labels = truth().predict(batch, BOTH)
    forces = labels.forces if with_forces else None
    parameters = LennardJonesAdapter.fit(LabelledBatch(batch, labels.energy, forces), KWARGS)
    np.testing.assert_allclose(parameters["sigma"], SIGMA, rtol=1e-5)
    np.testing.assert_allclose(parameters["epsilon"], EPSILON, rtol=1e-4)
    np.testing.assert_allclose(parameters["energies"], [-1.0, 3.0], rtol=1e-5)
    assert parameters["pairs"].tolist() == [[18, 18], [18, 36], [36, 36]]


def test_the_fit_in_chunks_equals_the_fit_at_once(monkeypatch):
    batch = StructureBatch.from_atoms(frames(20))
    labels = truth().predict(batch, BOTH)
    training = LabelledBatch(batch, labels.energy, labels.forces)
    at_once = LennardJonesAdapter.fit(training, KWARGS)
    monkeypatch.setattr("mlipbench.adapters.lj._CHUNK", 9)
    chunked = LennardJonesAdapter.fit(training, KWARGS)
    np.testing.assert_allclose(chunked["coefficients"], at_once["coefficients"], rtol=1e-7)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 100))
def test_whatever_the_labels_no_pair_attracts_down_to_zero_distance(seed):
    rng = np.random.default_rng(seed)
    batch = StructureBatch.from_atoms(frames(4, seed))
    model = fitted(batch, rng.normal(size=4), rng.normal(size=(32, 3)))
    a, b = model.coefficients[:, 0], -model.coefficients[:, 1]
    assert (a >= 0).all()
    assert (b >= 0).all()
    assert (a[b > 0] > 0).all()


def test_one_molecule_only_keeps_the_large_energy_of_its_atoms():
    rng = np.random.default_rng(3)
    made = []
    for _ in range(12):
        atoms = Atoms("ArKr2", [[0, 0, 0], [3.6, 0, 0], [0, 3.8, 0]])
        atoms.positions += rng.normal(0, 0.1, (3, 3))
        made.append(atoms)
    batch = StructureBatch.from_atoms(made)
    labels = truth().predict(batch, BOTH)
    energy = labels.energy - 4.0e6
    found = fitted(batch, energy, labels.forces).predict(batch, BOTH)
    np.testing.assert_allclose(found.energy, energy, atol=1e-5)
    np.testing.assert_allclose(found.forces, labels.forces, atol=1e-5)


def test_unknown_elements_pairs_and_compositions_are_not_applicable():
    far = Atoms("ArKr", [[0, 0, 0], [0, 0, 20]])
    near = Atoms("ArKr", [[0, 0, 0], [0, 0, 4]])
    known = [Atoms("Ar2", [[0, 0, 0], [0, 0, r]]) for r in (3.7, 4.0)] + [Atoms("Kr")]
    batch = StructureBatch.from_atoms(known)
    labels = truth().predict(batch, BOTH)
    model = fitted(batch, labels.energy, labels.forces)
    found = model.predict(StructureBatch.from_atoms([far, near, Atoms("He"), known[0]]), BOTH)
    assert found.not_applicable == {
        1: "the fit split holds no Ar-Kr pair within 7 Å",
        2: "the fit split holds no He",
    }
    assert np.isnan(found.energy).tolist() == [False, True, True, False]
    assert np.isnan(found.forces).any(axis=1).tolist() == [False, False, True, True, True, False, False]


def test_a_molecule_has_no_stress():
    found = one(Atoms("Ar2", [[0, 0, 0], [0, 0, 4]]), ALL)
    assert found.not_applicable == {0: "the stress needs three lattice vectors"}
    assert np.isnan(found.stress).all()


def test_an_empty_batch_gives_empty_arrays():
    found = truth().predict(StructureBatch.from_atoms([]), ALL)
    assert found.energy.shape == (0,)
    assert found.forces.shape == (0, 3)
    assert found.stress.shape == (0, 6)


def test_pairs_are_numbered_along_the_upper_triangle():
    numbers = np.array([1, 6, 8])
    first, second = np.triu_indices(3)
    np.testing.assert_array_equal(pair_index(numbers[first], numbers[second], numbers), np.arange(6))
    np.testing.assert_array_equal(pair_index(numbers[second], numbers[first], numbers), np.arange(6))
    assert pair_index(np.array([1]), np.array([7]), numbers).tolist() == [-1]


@pytest.mark.parametrize("kwargs", [{"cutoff": -1}, {"onset": 9, "cutoff": 6}, {"radius": 3}])
def test_refuses_arguments_that_do_not_fit(kwargs):
    with pytest.raises(ConfigError):
        fitted(StructureBatch.from_atoms([Atoms("Ar")]), [0.0], None, kwargs)


def test_refuses_parameters_of_another_cutoff_and_missing_ones():
    parameters = LennardJonesAdapter.fit(LabelledBatch(StructureBatch.from_atoms([Atoms("Ar")]), np.zeros(1)), KWARGS)
    with pytest.raises(ConfigError, match="fit the model again"):
        LennardJonesAdapter.load(LoadRequest(kwargs={"cutoff": 6.0}, parameters=parameters))
    with pytest.raises(ConfigError, match="fit the model"):
        LennardJonesAdapter.load(LoadRequest())


def test_refuses_forces_that_are_not_finite():
    with pytest.raises(DatasetError, match="force"):
        fitted(StructureBatch.from_atoms([Atoms("Ar")]), [0.0], np.full((1, 3), np.nan))

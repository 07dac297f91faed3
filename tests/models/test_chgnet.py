"""The CHGNet adapter against CHGNet's own calculator and graph converter."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest

pytest.importorskip("chgnet", reason="needs the package chgnet")
pytestmark = [
    pytest.mark.chgnet,
    # what CHGNet's own calculator, the reference, says
    pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad:UserWarning"),
    pytest.mark.filterwarnings("ignore:No Pauling electronegativity:UserWarning"),
]

from ase import Atoms  # noqa: E402
from ase.build import bulk, fcc111, molecule  # noqa: E402
from model_frames import cost_facts  # noqa: E402

from mlipbench.adapters.chgnet import ChgnetAdapter  # noqa: E402
from mlipbench.errors import ConfigError  # noqa: E402
from mlipbench.models.interface import LoadRequest, Property  # noqa: E402
from mlipbench.structures import StructureBatch  # noqa: E402
from mlipbench.structures.neighbors import neighbor_list  # noqa: E402

ALL = frozenset(Property)
ENERGY_AND_FORCES = frozenset({Property.ENERGY, Property.FORCES})


@pytest.fixture(scope="module")
def adapter():
    return ChgnetAdapter.load(LoadRequest(dtype="float32"))


@pytest.fixture(scope="module")
def calculator():
    from chgnet.model.dynamics import CHGNetCalculator

    with contextlib.redirect_stdout(io.StringIO()):
        return CHGNetCalculator(use_device="cpu", on_isolated_atoms="ignore")


def rattled(atoms: Atoms, seed: int = 0) -> Atoms:
    rng = np.random.default_rng(seed)
    atoms = atoms.copy()
    atoms.positions += rng.normal(0, 0.1, atoms.positions.shape)
    if atoms.pbc.all():
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + rng.normal(0, 0.02, (3, 3))), scale_atoms=True)
    return atoms


def periodic() -> list[Atoms]:
    outside = rattled(bulk("NaCl", "rocksalt", a=5.6), 1)
    outside.positions += [[13.0, -20.0, 4.0], [-7.0, 9.0, 31.0]]
    slab = rattled(fcc111("Cu", (2, 2, 3), vacuum=7.0), 2)
    box = molecule("CH3CH2OH", vacuum=8.0)
    return [
        rattled(bulk("Si", cubic=True)),
        rattled(bulk("MgO", "rocksalt", a=4.2, cubic=True), 3),
        rattled(bulk("Fe"), 4),
        outside,
        slab,
        box,
        Atoms("Ne", cell=[20.0] * 3, pbc=True),  # an isolated atom
        Atoms("OHe", [[0, 0, 0], [0, 0, 20.0]], cell=[9.0, 9.0, 40.0], pbc=True),  # two isolated atoms
        rattled(bulk("LiF", "rocksalt", a=4.0), 5) + Atoms("H", [[30.0, 0, 0]]),
    ]


def expected(calculator, atoms: Atoms):
    atoms = atoms.copy()
    atoms.calc = calculator
    return float(atoms.get_potential_energy()), atoms.get_forces(), atoms.get_stress()


def test_one_batch_equals_the_calculator_one_by_one(adapter, calculator):
    frames = periodic()
    batch = StructureBatch.from_atoms(frames)
    found = adapter.predict(batch, ALL)
    assert found.energy.dtype == found.forces.dtype == found.stress.dtype == np.float64
    for s, atoms in enumerate(frames):
        energy, forces, stress = expected(calculator, atoms)
        assert found.energy[s] / len(atoms) == pytest.approx(energy / len(atoms), abs=1e-5)
        np.testing.assert_allclose(found.forces[batch.offsets[s] : batch.offsets[s + 1]], forces, atol=1e-4)
        if np.linalg.matrix_rank(atoms.cell.array) == 3:
            np.testing.assert_allclose(found.stress[s], stress, atol=1e-5)


def test_graphs_are_those_of_the_converter(adapter, calculator):
    from pymatgen.io.ase import AseAtomsAdaptor

    for atoms in periodic()[:6]:
        reference = calculator.model.graph_converter(AseAtomsAdaptor.get_structure(atoms))
        prepared = adapter.prepare(StructureBatch.from_atoms([atoms]))
        np.testing.assert_array_equal(prepared.pairs.numpy(), reference.atom_graph.numpy())
        np.testing.assert_array_equal(prepared.edges.image, reference.neighbor_image.numpy())
        np.testing.assert_array_equal(prepared.graph.undirected, reference.directed2undirected.numpy())
        np.testing.assert_array_equal(prepared.graph.first, reference.undirected2directed.numpy())
        np.testing.assert_array_equal(prepared.graph.angles, reference.bond_graph.numpy().reshape(-1, 5))


def test_a_molecule_without_a_cell_equals_one_in_a_large_box(adapter, calculator):
    ethanol = molecule("CH3CH2OH")
    ethanol.positions += [40.0, -3.0, 8.0]
    boxed = ethanol.copy()
    boxed.set_cell([30.0] * 3)
    boxed.set_pbc(True)
    energy, forces, _ = expected(calculator, boxed)
    found = adapter.predict(StructureBatch.from_atoms([ethanol]), ENERGY_AND_FORCES)
    assert found.energy[0] == pytest.approx(energy, abs=1e-5 * len(ethanol))
    np.testing.assert_allclose(found.forces, forces, atol=1e-4)


def test_a_slab_without_a_third_vector_equals_one_with_vacuum(adapter):
    slab = rattled(fcc111("Cu", (2, 2, 2), vacuum=10.0))
    slab.pbc = [True, True, False]
    flat = slab.copy()
    flat.cell[2] = 0.0
    found = adapter.predict(StructureBatch.from_atoms([slab, flat]), ENERGY_AND_FORCES)
    assert found.energy[0] == pytest.approx(found.energy[1], abs=1e-4)
    np.testing.assert_allclose(found.forces[: len(slab)], found.forces[len(slab) :], atol=1e-4)


def test_a_left_handed_cell_gives_what_the_right_handed_one_gives(adapter):
    atoms = rattled(bulk("MgO", "rocksalt", a=4.2))
    mirror = atoms.copy()
    mirror.set_cell(atoms.cell.array[[1, 0, 2]])
    found = adapter.predict(StructureBatch.from_atoms([atoms, mirror]), ALL)
    assert np.linalg.det(atoms.cell.array) * np.linalg.det(mirror.cell.array) < 0
    assert found.energy[0] == pytest.approx(found.energy[1], abs=1e-5)
    np.testing.assert_allclose(found.forces[:2], found.forces[2:], atol=1e-4)
    np.testing.assert_allclose(found.stress[0], found.stress[1], atol=1e-5)


@pytest.mark.parametrize("pbc", [(True, True, True), (True, False, True), (False, False, False)])
def test_finds_the_edges_of_the_harness(adapter, pbc):
    rng = np.random.default_rng(1)
    cell = np.array([[0.0, 4.1, 1.0], [3.9, 0.3, 0.2], [0.5, -1.0, 5.0]])
    atoms = Atoms("O6", rng.uniform(-12, 12, (6, 3)), cell=cell, pbc=pbc)
    batch = StructureBatch.from_atoms([atoms])
    edges = adapter.prepare(batch).edges
    ours = neighbor_list(batch, 6.0)
    theirs = zip(edges.center, edges.neighbor, *edges.image.T, strict=True)
    assert sorted(theirs) == sorted(zip(ours.i, ours.j, *ours.shifts.T, strict=True))


def test_the_result_does_not_depend_on_batch_mates(adapter):
    batch = StructureBatch.from_atoms(periodic())
    together = adapter.predict(batch, ENERGY_AND_FORCES)
    for s, single in enumerate(batch):
        alone = adapter.predict(single, ENERGY_AND_FORCES)
        assert alone.energy[0] == pytest.approx(together.energy[s], abs=1e-5 * single.n_atoms)
        np.testing.assert_allclose(
            alone.forces, together.forces[batch.offsets[s] : batch.offsets[s + 1]], atol=1e-5, rtol=1e-4
        )


def test_forces_are_the_gradient_of_the_energy(adapter):
    atoms = rattled(bulk("NaCl", "rocksalt", a=5.6, cubic=True))
    step, along = 0.02, np.random.default_rng(2).normal(size=(len(atoms), 3))
    along /= np.linalg.norm(along)
    moved = []
    for sign in (-1, 1):
        moved.append(atoms.copy())
        moved[-1].positions += sign * step * along
    low, high = adapter.predict(StructureBatch.from_atoms(moved), frozenset({Property.ENERGY})).energy
    forces = adapter.predict(StructureBatch.from_atoms([atoms]), ENERGY_AND_FORCES).forces
    assert -np.sum(forces * along) == pytest.approx((high - low) / (2 * step), abs=2e-3)


def test_the_stress_is_the_derivative_by_strain(adapter):
    atoms = rattled(bulk("MgO", "rocksalt", a=4.3, cubic=True))
    step = 0.003
    strained = []
    for sign in (-1, 1):
        strained.append(atoms.copy())
        strained[-1].set_cell(atoms.cell.array @ (np.eye(3) + sign * step * np.diag([1, 0, 0])), scale_atoms=True)
    low, high = adapter.predict(StructureBatch.from_atoms(strained), frozenset({Property.ENERGY})).energy
    stress = adapter.predict(StructureBatch.from_atoms([atoms]), ALL).stress
    assert stress[0, 0] == pytest.approx((high - low) / (2 * step) / atoms.get_volume(), abs=5e-4)


def test_energies_alone_equal_energies_with_forces_and_nothing_else_is_computed(adapter):
    batch = StructureBatch.from_atoms(periodic())
    alone = adapter.predict(batch, frozenset({Property.ENERGY}))
    assert alone.forces is None
    assert alone.stress is None
    np.testing.assert_allclose(alone.energy, adapter.predict(batch, ALL).energy, atol=1e-6)


def test_structures_it_cannot_take_are_not_applicable_and_leave_the_others_alone(adapter):
    frames = [Atoms(), rattled(bulk("Si")), Atoms("Am", cell=[3.0] * 3, pbc=True), molecule("H2O")]
    found = adapter.predict(StructureBatch.from_atoms(frames), ALL)
    assert set(found.not_applicable) == {0, 2, 3}
    assert "lattice vectors" in found.not_applicable[3]
    assert np.isnan(found.energy[[0, 2, 3]]).all()
    assert np.isnan(found.forces[2:]).all()
    alone = adapter.predict(StructureBatch.from_atoms(frames[1:2]), ALL)
    assert found.energy[1] == pytest.approx(alone.energy[0], abs=1e-6)
    np.testing.assert_allclose(found.forces[:2], alone.forces, atol=1e-5)


def test_an_empty_batch_gives_empty_arrays(adapter):
    found = adapter.predict(StructureBatch.from_atoms([]), ALL)
    assert found.energy.shape == (0,)
    assert found.forces.shape == (0, 3)
    assert found.stress.shape == (0, 6)


def test_inputs_are_not_changed_and_calls_repeat_exactly(adapter):
    batch = StructureBatch.from_atoms(periodic()[:3])
    before = {name: column.copy() for name, column in batch.columns().items()}
    first, second = adapter.predict(batch, ALL), adapter.predict(batch, ALL)
    np.testing.assert_array_equal(first.forces, second.forces)
    for name, column in batch.columns().items():
        np.testing.assert_array_equal(column, before[name])


@pytest.mark.usefixtures("two_threads")
def test_calls_repeat_exactly_where_threads_share_the_work(adapter):
    prepared = adapter.prepare(StructureBatch.from_atoms([rattled(bulk("Cu", cubic=True), seed) for seed in range(16)]))
    first, *others = [adapter.forward(prepared, ALL) for _ in range(3)]
    for found in others:
        for name in ("energy", "forces", "stress"):
            np.testing.assert_array_equal(getattr(found, name), getattr(first, name))


def test_loading_says_nothing_on_stdout(capfd):
    ChgnetAdapter.load(LoadRequest(dtype="float32", checkpoint="r2scan"))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("request_", "problem"),
    [
        (LoadRequest(dtype="float64"), "float32"),
        (LoadRequest(dtype="float32", checkpoint="0.9"), "unknown CHGNet checkpoint '0.9'"),
        (LoadRequest(dtype="float32", kwargs={"task": "e"}), "'task'"),
    ],
)
def test_refuses_what_it_cannot_load(request_, problem):
    with pytest.raises(ConfigError, match=problem):
        ChgnetAdapter.load(request_)


def test_the_module_is_the_network(adapter):
    assert sum(p.numel() for p in adapter.module().parameters()) == 412_525


def test_operations_equal_those_of_torchs_own_counter(adapter):
    from torch.utils.flop_counter import FlopCounterMode

    frames = [rattled(bulk("Si", cubic=True)), rattled(bulk("NaCl", "rocksalt", a=5.6), 1)]
    facts = cost_facts(adapter, frames)
    prepared = adapter.prepare(StructureBatch.from_atoms(frames))
    graphs = [crystal_graph(adapter, atoms) for atoms in frames]
    assert facts.n_edges == sum(len(graph.atom_graph) for graph in graphs)
    for cost, properties in ((facts.energy, frozenset({Property.ENERGY})), (facts.forces, ENERGY_AND_FORCES)):
        with FlopCounterMode(display=False) as counter:
            adapter.forward(prepared, properties)
        assert cost.dispatched.reason is None
        assert cost.dispatched.flops == counter.get_total_flops() > 1e8
    assert facts.forces.thop.reason is None
    assert 0 < facts.forces.thop.flops < facts.forces.dispatched.flops  # it sees no backward pass


def test_parameters(adapter):
    """Against a backward pass of the package's own forward."""
    atoms = rattled(bulk("NaCl", "rocksalt", a=5.6), 1)
    counted = cost_facts(adapter, [atoms]).parameters
    with contextlib.redirect_stdout(io.StringIO()):
        model = type(adapter.model).load(use_device="cpu", verbose=False)
    output = model([crystal_graph(adapter, atoms)], task="ef")
    (output["e"].sum() + output["f"][0].square().sum()).backward()
    trainable = [tensor for tensor in model.parameters() if tensor.requires_grad]
    assert counted.total == sum(tensor.numel() for tensor in model.parameters()) == 412_525  # the package's figure
    assert counted.trainable == sum(tensor.numel() for tensor in trainable)
    assert counted.without_gradient == sum(tensor.numel() for tensor in trainable if tensor.grad is None)


def crystal_graph(adapter, atoms):
    from pymatgen.io.ase import AseAtomsAdaptor

    return adapter.model.graph_converter(AseAtomsAdaptor.get_structure(atoms))

"""Probes of toys whose defects are known to the last digit."""

import os
from dataclasses import dataclass, replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc100, molecule
from ase.data import atomic_masses
from ase.units import fs, kB

from mlipbench.execution.requests import task_message
from mlipbench.metrics.probes import FINDINGS, Probe
from mlipbench.models.interface import Adapter, LoadRequest, Predictions, Property
from mlipbench.protocol import Message, MessageKind, ProtocolError
from mlipbench.status import Task
from mlipbench.structures import StructureBatch
from mlipbench.suite.tasks import PhysicsTask
from mlipbench.tasks import PhysicsFacts, TaskRequest
from mlipbench.testing.toys import SpringAdapter
from mlipbench.worker.physics import Parameters, probe, probe_structure
from mlipbench.worker.physics.continuity import probe_continuity
from mlipbench.worker.physics.curves import open_bonds, probe_atom, probe_bonds, probe_diatomic, probe_volume
from mlipbench.worker.physics.dynamics import NVE, probe_dynamics
from mlipbench.worker.physics.gradient import probe_gradient
from mlipbench.worker.physics.model import Model
from mlipbench.worker.physics.separation import probe_extensivity, probe_locality, probe_size_consistency
from mlipbench.worker.physics.symmetry import probe_net_force, probe_net_torque, probe_precision, probe_rotations
from mlipbench.worker.session import Session

CUTOFF = 2.5


class Toy(Adapter):
    """Says of each structure what `one` says."""

    def __init__(self, request):
        """Keep how it was loaded."""
        self.request = request

    @classmethod
    def load(cls, request):
        """Return the toy."""
        return cls(request)

    def prepare(self, batch, neighbors=None):
        """Return the structures."""
        del neighbors
        return batch

    def forward(self, prepared, properties):
        """Ask `one` of each structure."""
        del properties
        told = [self.one(structure) for structure in prepared]
        forces = [
            np.broadcast_to(force, structure.positions.shape)
            for (_, force), structure in zip(told, prepared, strict=True)
        ]
        return Predictions(np.array([energy for energy, _ in told], dtype=float), np.concatenate(forces))

    def one(self, structure):
        """Return energy and forces of one structure."""
        raise NotImplementedError


class Whirl(Toy):
    """E = k/2 Σ r², F = -k r + w (y, -x, 0): J = -k + W, with W antisymmetric."""

    k, w = 3.0, 0.5

    def one(self, structure):
        """Return energy and forces."""
        x, y, _ = structure.positions.T
        whirl = self.w * np.stack([y, -x, 0 * x], axis=1)
        return self.k / 2 * np.sum(structure.positions**2), -self.k * structure.positions + whirl


class Crowd(Toy):
    """E = n², and a force of n meV/Å along x on every atom."""

    def one(self, structure):
        """Return energy and forces."""
        return structure.n_atoms**2, np.array([structure.n_atoms / 1000, 0.0, 0.0])


class Mean(Toy):
    """The energy of an atom, however many there are."""

    def one(self, structure):
        """Return energy and forces."""
        return -3.0, np.zeros(3)


class Pairs(Toy):
    """Lennard-Jones pairs of 1 Å and 1 eV, cut off where they are not zero."""

    cutoff = CUTOFF

    def one(self, structure):
        """Return energy and forces."""
        i, j = np.triu_indices(structure.n_atoms, 1)
        vectors = structure.positions[j] - structure.positions[i]
        r = np.linalg.norm(vectors, axis=1)
        near = r < self.cutoff
        i, j, vectors, r = i[near], j[near], vectors[near], r[near]
        slope = 4 * (-12 * r**-13 + 6 * r**-7)
        forces = np.zeros_like(structure.positions)
        np.add.at(forces, i, slope[:, None] * vectors / r[:, None])
        np.subtract.at(forces, j, slope[:, None] * vectors / r[:, None])
        return np.sum(4 * (r**-12 - r**-6)), forces


class EndlessPairs(Pairs):
    """The same without a cutoff."""

    cutoff = np.inf


class Breathing(Toy):
    """E = (V - 30 Å³)²."""

    def one(self, structure):
        """Return energy and forces."""
        return (abs(np.linalg.det(structure.cell[0])) - 30.0) ** 2, np.zeros(3)


class Ramp(Toy):
    """E = 1 meV/Å times x of the first atom, and no forces: atoms fly on, and the energy changes with them."""

    def one(self, structure):
        """Return energy and forces."""
        return 1e-3 * structure.positions[0, 0], np.zeros(3)


class Coarse(Toy):
    """In float32 off by 6 meV, and by 2 meV/Å."""

    def one(self, structure):
        """Return energy and forces."""
        off = float(self.request.dtype == "float32")
        return 1.0 + 6e-3 * off, np.array([2e-3 * off, 0.0, 0.0])


class Choosy(Toy):
    """Knows hydrogen; helium has no finite energy."""

    def one(self, structure):
        """Return energy and forces."""
        return (np.nan if 2 in structure.numbers else 0.0), np.zeros(3)


@pytest.fixture
def model_of(tmp_path):
    """Return a model of an adapter; its replies go to a file."""
    opened = []

    def make(adapter_class, dtype="float64"):
        opened.append(os.open(tmp_path / f"replies{len(opened)}", os.O_RDWR | os.O_CREAT))
        request = LoadRequest(dtype=dtype)
        return Model(Session(reply_fd=opened[-1], loaded=adapter_class.load(request), request=request), 64)

    yield make
    for fd in opened:
        os.close(fd)


def batch(atoms):
    return StructureBatch.from_atoms([atoms])


def pair(distance=1.2, symbol="Ar"):
    return batch(Atoms([symbol] * 2, positions=[[0, 0, 0], distance * np.array([2.0, 1.0, 2.0]) / 3]))


def methane():
    atoms = molecule("CH4")
    atoms.rattle(0.05, seed=1)
    return batch(atoms)


def slab(*, across=False):
    atoms = fcc100("Cu", (1, 1, 3), vacuum=7.0, periodic=True)
    if across:
        atoms.positions[:, 2] -= atoms.positions[:, 2].mean()
        atoms.wrap()
    return batch(atoms)


def test_what_a_whirl_does_to_gradient_and_jacobian(model_of):
    structure = pair()
    found = probe_gradient(model_of(Whirl), structure, directions=6, seed=0)
    x, y, _ = structure.positions.T
    # all six coordinates are directions: nothing is estimated
    assert found["gradient_deviation"] == pytest.approx(np.sum(0.25 * (x**2 + y**2)) / 6, rel=1e-6)
    assert found["jacobian_antisymmetric"] == pytest.approx(2 * 2 * 0.25, rel=1e-6)
    assert found["jacobian_squared"] == pytest.approx(2 * (3 * 9.0 + 2 * 0.25), rel=1e-6)


def test_random_directions_estimate_the_same_without_bias(model_of):
    structure, model = methane(), model_of(Whirl)
    found = [probe_gradient(model, structure, directions=4, seed=seed) for seed in range(200)]
    x, y, _ = structure.positions.T
    expected = {
        "gradient_deviation": 0.25 * np.sum(x**2 + y**2) / 15,
        "jacobian_antisymmetric": 5 * 2 * 0.25,
        "jacobian_squared": 5 * (27.0 + 0.5),
    }
    for name, value in expected.items():
        drawn = np.array([one[name] for one in found])
        error = drawn.std() / np.sqrt(len(drawn))
        assert abs(drawn.mean() - value) < 4 * error + 1e-6, name
        assert error < 0.1 * value, name


def test_a_gradient_has_no_deviation(model_of):
    found = probe_gradient(model_of(EndlessPairs), pair(), directions=6, seed=0)
    assert found["gradient_deviation"] < 1e-12
    assert found["jacobian_antisymmetric"] < 1e-6 * found["jacobian_squared"]


def test_a_gradient_that_is_rough_has_none_either(model_of):
    class Rippled(Toy):
        """E = 3/2 Σ r² + a sin(q s), s along all coordinates: ripples of 6 mÅ, which a step of 0.01 Å jumps over."""

        a, q = 1e-5, 1000.0

        def one(self, structure):
            """Return energy and forces."""
            x = structure.positions
            along = np.sqrt(np.arange(1.0, x.size + 1)).reshape(x.shape)
            along /= np.linalg.norm(along)
            s = np.sum(along * x)
            return 1.5 * np.sum(x**2) + self.a * np.sin(self.q * s), -3 * x - self.a * self.q * np.cos(
                self.q * s
            ) * along

    found = probe_gradient(model_of(Rippled), methane(), directions=8, seed=0)
    assert found["jacobian_antisymmetric"] < (1e-3) ** 2 * found["jacobian_squared"]
    assert found["gradient_deviation"] < 1e-4


def test_sums_of_forces(model_of):
    structure = pair()
    assert probe_net_force(model_of(Crowd), structure)["net_force"] == pytest.approx(2e-3)
    # two equal forces about the centre between two atoms have no moment; those of a whirl have
    assert probe_net_torque(model_of(Crowd), structure)["net_torque"] == pytest.approx(0.0, abs=1e-15)
    arms = structure.positions - structure.positions.mean(axis=0)
    x, y, _ = structure.positions.T
    expected = np.cross(arms, 0.5 * np.stack([y, -x, 0 * x], axis=1) - 3.0 * structure.positions).sum(axis=0)
    assert probe_net_torque(model_of(Whirl), structure)["net_torque"] == pytest.approx(np.linalg.norm(expected) / 2)


def test_rotations(model_of):
    isotropic = probe_rotations(model_of(EndlessPairs), methane(), rotations=5, seed=0)
    assert isotropic["rotation_forces"] < 1e-9
    assert isotropic["rotation_cosine"] == pytest.approx(1.0)
    assert isotropic["rotation_energy"] < 1e-9
    # forces along x stay along x: the cosine with what they should be is that of the rotation, its mean zero
    fixed = probe_rotations(model_of(Crowd), methane(), rotations=400, seed=0)
    assert abs(fixed["rotation_cosine"]) < 0.15
    assert fixed["rotation_energy"] == 0.0


def test_twice_as_much_of_what_counts_no_atoms(model_of):
    crystal = batch(bulk("Cu", cubic=True))
    assert probe_extensivity(model_of(Mean), crystal, seed=0)["extensivity_energy"] == pytest.approx(0.5)
    # n² makes (2 n)² - 2 n² = 2 n² of 2 n²; forces of 4 atoms become those of 8
    found = probe_extensivity(model_of(Crowd), crystal, seed=0)
    assert found["extensivity_energy"] == pytest.approx(1.0)
    assert found["extensivity_forces"] == pytest.approx(4e-3)


@pytest.mark.parametrize("make", [methane, slab])
def test_far_parts_of_what_counts_all_atoms(model_of, make):
    structure = make()
    n = structure.n_atoms
    half = (n + 1) // 2
    assert probe_size_consistency(model_of(Crowd), structure)["size_consistency"] == pytest.approx(2 * n * half)
    found = probe_locality(model_of(Crowd), structure, draws=5, seed=0)
    assert found["locality"] == pytest.approx(20e-3)
    assert found["locality_mean"] == pytest.approx(1e-3)


@pytest.mark.parametrize("make", [methane, slab, lambda: slab(across=True)])
def test_far_parts_are_far(model_of, make):
    seen = []

    class Witness(Toy):
        """Keeps what it is asked."""

        def one(self, structure):
            """Remember the structure."""
            del self
            seen.append(structure)
            return 0.0, np.zeros(3)

    structure = make()
    probe_size_consistency(model_of(Witness), structure)
    probe_locality(model_of(Witness), structure, draws=5, seed=0)
    n = structure.n_atoms
    larger = [one for one in seen if one.n_atoms > n]
    half = (n + 1) // 2
    assert {one.n_atoms for one in larger} == {n + half, n + 20, n + 1}
    least = {n + half: 99.9, n + 20: 39.9, n + 1: 19.9}
    for one in larger:
        between = [
            np.linalg.norm(a - b + image)
            for a in one.positions[:n]
            for b in one.positions[n:]
            for image in _images(one)
        ]
        assert min(between) > least[one.n_atoms]
        own = np.sort([np.linalg.norm(a - b) for a in one.positions[:n] for b in one.positions[:n]])
        whole = structure.positions if not structure.pbc.any() else slab().positions
        assert own == pytest.approx(np.sort([np.linalg.norm(a - b) for a in whole for b in whole]), abs=1e-9)


def _images(structure):
    if not structure.pbc.any():
        return [np.zeros(3)]
    steps = range(-1, 2)
    return [np.array([i, j, k]) @ structure.cell[0] for i in steps for j in steps for k in steps]


def test_an_average_over_all_atoms_is_not_size_consistent(model_of):
    class Averaging(Toy):
        """The number of atoms times their mean atomic number, squared: the same for an atom in one copy and in two."""

        def one(self, structure):
            """Return energy and forces."""
            return structure.n_atoms * structure.numbers.mean() ** 2, np.zeros(3)

    # CH4 and its first half CHH, as ASE lists carbon first: means 2, 8/3 and 18/8
    found = probe_size_consistency(model_of(Averaging), methane())["size_consistency"]
    assert found == pytest.approx(abs(8 * (18 / 8) ** 2 - 5 * 2.0**2 - 3 * (8 / 3) ** 2))


def test_the_jump_at_a_cutoff(model_of):
    found = probe_continuity(model_of(Pairs), pair())
    slope = 4 * (-12 * CUTOFF**-13 + 6 * CUTOFF**-7)
    assert found["cutoff_energy_jump"] == pytest.approx(abs(4 * (CUTOFF**-12 - CUTOFF**-6)), rel=1e-3)
    assert found["cutoff_force_jump"] == pytest.approx(slope * 2 / 3, rel=1e-3)
    assert found["cutoff_slope_jump"] == pytest.approx(slope, rel=1e-2)


@pytest.mark.parametrize("make", [pair, methane])
def test_no_jump_without_one(model_of, make):
    found = probe_continuity(model_of(EndlessPairs), make())
    assert found["cutoff_energy_jump"] < 1e-6
    assert found["cutoff_force_jump"] < 1e-4


def test_a_jump_of_a_crystal_and_of_a_slab_is_found(model_of):
    class Step(Toy):
        """A step of 30 meV where an atom has moved by 0.7345 Å."""

        def one(self, structure):
            """Return energy and forces."""
            start = type(self).start.positions
            moved = np.linalg.norm(structure.positions - start, axis=1).max()
            return 0.03 * (moved > 0.7345) + 0.1 * np.cos(moved), np.zeros(3)

    for structure in (batch(bulk("Cu", cubic=True)), slab(), slab(across=True)):
        Step.start = structure
        found = probe_continuity(model_of(Step), structure)
        assert found["cutoff_energy_jump"] == pytest.approx(0.03, rel=1e-3)
        assert found["cutoff_force_jump"] == 0.0


def test_a_pair_is_an_ideal_dimer(model_of):
    found = probe_diatomic(model_of(EndlessPairs), pair())
    assert found["diatomic_flips"] == found["diatomic_minima"] == found["diatomic_inflections"] == 1
    assert found["diatomic_repulsion"] == pytest.approx(-1.0)
    assert found["diatomic_attraction"] == pytest.approx(1.0)
    assert found["diatomic_tortuosity"] == pytest.approx(1.0)
    assert found["diatomic_jump"] == 0.0
    assert found["diatomic_conservation"] < 5e-3
    assert found["dissociation"] < 1e-9


def test_a_wall_is_looked_for_inside_of_bonds(model_of):
    # 0.7 times the sum of covalent radii: 0.80 Å of fluorine is inside of the minimum at 1.12 Å, 1.48 Å of argon is not
    assert probe_diatomic(model_of(EndlessPairs), pair(symbol="F"))["diatomic_wall"] == 1.0
    inside = (np.linspace(0.18, 6, 100) < 0.7 * 2.12).sum() - 1
    falls = (np.linspace(0.18, 6, 100)[1:] < 2 ** (1 / 6)).sum()
    found = probe_diatomic(model_of(EndlessPairs), pair())["diatomic_wall"]
    assert falls / inside <= found <= (falls + 1) / inside


def test_dissociation_of_what_counts_all_atoms(model_of):
    assert probe_diatomic(model_of(Crowd), pair())["dissociation"] == pytest.approx(4 - 2)


def test_volumes(model_of):
    # a cell of 28 Å³ is scanned from 22.4 to 33.6, with the minimum at 30
    crystal = batch(Atoms("H", cell=[28.0 ** (1 / 3)] * 3, pbc=True))
    found = probe_volume(model_of(Breathing), crystal)
    assert found["volume_flips"] == 1
    assert found["volume_tortuosity"] == pytest.approx(1.0)
    assert found["volume_compression"] == pytest.approx(-1.0)
    assert found["volume_expansion"] == pytest.approx(1.0)


def test_bonds_are_found_with_what_hangs_on_them():
    ethanol = batch(molecule("CH3CH2OH"))
    assert sorted(int(min(side.sum(), 9 - side.sum())) for _, side in open_bonds(ethanol)) == [1, 1, 1, 1, 1, 1, 2, 4]
    # the three bonds of the ring are left out
    assert len(open_bonds(batch(molecule("C3H6_D3h")))) == 6


def test_a_stretched_bond_of_pairs_is_ideal(model_of):
    line = batch(Atoms("Ar3", positions=[[0, 0, 0], [2.1, 0, 0], [4.2, 0, 0]]))

    class Wide(EndlessPairs):
        """Pairs whose minimum is at 2.1 Å."""

        def one(self, structure):
            """Return energy and forces, lengths in units of 1.87 Å."""
            scale = 2.1 / 2 ** (1 / 6)
            energy, forces = super().one(structure.moved(structure.positions / scale))
            return energy, forces / scale

    found = probe_bonds(model_of(Wide), line)
    assert found["bond_minima"] == found["bond_flips"] == 1
    assert found["bond_tortuosity"] == pytest.approx(1.0, abs=1e-3)
    assert found["bond_jump"] == 0.0


def test_a_molecule_of_rings_has_no_bond_to_stretch(model_of):
    triangle = batch(Atoms("C3", positions=[[0, 0, 0], [1.5, 0, 0], [0.75, 1.3, 0]]))
    assert probe_bonds(model_of(EndlessPairs), triangle) == {}


def test_lone_atoms(model_of):
    lone = batch(Atoms("H"))
    assert probe_atom(model_of(Mean), lone) == {"atom_finite": 1.0}
    assert probe_atom(model_of(Choosy), batch(Atoms("He"))) == {"atom_finite": 0.0}
    assert probe_atom(model_of(Whirl), batch(Atoms("H", positions=[[1.0, 0, 0]]))) == {"atom_finite": 0.0}


def test_drift_is_a_slope_in_mev_an_atom_and_ps(model_of):
    # two atoms of one mass: what one draws less the mean of both
    drawn = np.random.default_rng(0).standard_normal((2, 3))[:, 0] * np.sqrt(kB * 300.0 / atomic_masses[18])
    speed = abs(drawn[0] - drawn.mean()) * fs * 1000  # Å/ps
    found = probe_dynamics(model_of(Ramp), pair(), NVE(0.5, 300.0, 40), seed=0)
    # 1 meV/Å for two atoms
    assert found["nve_drift"] == pytest.approx(speed / 2, rel=1e-6)
    # nothing acts on the atoms: the kinetic energy does not fluctuate beyond rounding
    assert found.get("nve_drift_relative", np.inf) > 1e3


def test_a_smooth_energy_fluctuates_with_the_square_of_the_time_step(model_of):
    found = probe_dynamics(model_of(EndlessPairs), pair(1.2), NVE(0.5, 100.0, 400), seed=0)
    assert found["timestep_exponent"] == pytest.approx(2.0, abs=0.1)
    assert found["nve_drift_relative"] < 0.1


def test_a_whirl_drives_the_energy_up(model_of):
    found = probe_dynamics(model_of(Whirl), methane(), NVE(0.5, 300.0, 200), seed=0)
    assert found["nve_drift"] > 10.0


def test_two_precisions(model_of):
    found = probe_precision(model_of(Coarse), model_of(Coarse, "float32"), methane())
    assert found["precision_energy"] == pytest.approx(6e-3 / 5)
    assert found["precision_forces"] == pytest.approx(2e-3)


@dataclass(frozen=True)
class Asked:
    """What `probe` is asked for."""

    elements: tuple[int, ...] | None = None
    precisions: tuple[str, ...] = ("float64",)
    probes: tuple[Probe, ...] = tuple(Probe)

    def message(self, structures):
        """Return the request."""
        parameters = PhysicsTask(nve={"steps": 40}).model_dump(mode="json", exclude={"metrics", "probes"})
        request = TaskRequest(frozenset({Property.ENERGY, Property.FORCES}), Task.PHYSICS, parameters)
        facts = PhysicsFacts(self.precisions, self.elements, self.probes)
        return task_message(1, structures, replace(request, physics=facts))


def test_a_batch_of_all_kinds(model_of):
    session = model_of(SpringAdapter).session
    frames = [Atoms("H"), molecule("H2"), molecule("CH4"), bulk("Cu", cubic=True)]
    reply = probe(session, Asked().message(StructureBatch.from_atoms(frames)))
    assert reply.kind == MessageKind.PREDICTED
    assert set(reply.arrays) == {*FINDINGS, "ok"}
    assert reply.arrays["ok"].all()
    found = {name: np.isfinite(reply.arrays[name]).tolist() for name in FINDINGS}
    assert found["atom_finite"] == [True, False, False, False]
    assert found["net_force"] == [False, True, True, True]
    assert found["net_torque"] == [False, True, True, False]
    assert found["size_consistency"] == [False, True, True, False]
    assert found["dissociation"] == [False, True, False, False]
    assert found["bond_minima"] == [False, False, True, False]
    assert found["volume_flips"] == [False, False, False, True]
    assert found["precision_energy"] == [False] * 4


def test_only_what_is_asked_for_is_tried(model_of):
    session = model_of(SpringAdapter).session
    message = Asked(probes=(Probe.NET_FORCE,)).message(StructureBatch.from_atoms([molecule("CH4")]))
    found = probe(session, message).arrays
    assert [name for name in FINDINGS if np.isfinite(found[name]).all()] == ["net_force"]


def test_the_other_precision_is_loaded_where_the_card_has_one(model_of):
    session = model_of(Coarse).session
    asked = Asked(precisions=("float64", "float32"), probes=(Probe.PRECISION,))
    found = probe(session, asked.message(StructureBatch.from_atoms([molecule("CH4")]))).arrays
    assert found["precision_energy"] == pytest.approx([6e-3 / 5])
    assert session.other is not None
    assert session.other.request.dtype == "float32"


def test_foreign_elements_are_declined_and_numbers_that_are_not_finite_fail(model_of):
    session = model_of(Choosy).session
    frames = [molecule("H2"), Atoms("HeH", positions=[[0, 0, 0], [0, 0, 1.0]]), molecule("N2")]
    asked = Asked(elements=(1, 2), probes=(Probe.NET_FORCE, Probe.LONE_ATOM))
    reply = probe(session, asked.message(StructureBatch.from_atoms(frames)))
    assert reply.arrays["ok"].tolist() == [True, False, False]
    assert reply.header["reasons"] == {"1": "net_force: energy or forces are not finite"}
    assert reply.header["not_applicable"] == {"2": "the model does not cover N"}
    assert np.isnan(reply.arrays["net_force"][1:]).all()


def test_what_a_probe_makes_may_be_declined(model_of):
    class Small(Toy):
        """Takes five atoms at most."""

        def forward(self, prepared, properties):
            """Decline larger ones."""
            found = super().forward(prepared, properties)
            large = {int(i): "too large" for i in np.flatnonzero(prepared.counts > 5)}
            return replace(found, not_applicable=large)

        def one(self, structure):
            """Return energy and forces."""
            return 0.0, np.zeros(3)

    session = model_of(Small).session
    message = Asked(probes=(Probe.NET_FORCE, Probe.SIZE_CONSISTENCY)).message(
        StructureBatch.from_atoms([molecule("CH4")])
    )
    reply = probe(session, message)
    assert reply.header["not_applicable"] == {"0": "size_consistency: too large"}


@pytest.mark.parametrize("header", [{}, {"parameters": {"directions": 8}, "physics": {}}])
def test_a_request_without_parameters_is_refused(model_of, header):
    structures = StructureBatch.from_atoms([molecule("CH4")])
    complete = Asked().message(structures)
    with pytest.raises(ProtocolError, match="does not name its parameters"):
        probe(model_of(Mean).session, Message(complete.kind, header, complete.arrays))


def test_probing_twice_gives_the_same(model_of):
    parameters = Parameters.of(Asked().message(methane()).header)
    first, second = (probe_structure(model_of(EndlessPairs), None, methane(), parameters) for _ in range(2))
    assert first == second

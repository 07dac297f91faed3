"""Molecular dynamics beside the model, against ASE's integrators and MDSim's formula written down once more."""

import os
import re
from dataclasses import dataclass, field

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.md.langevin import Langevin
from ase.md.verlet import VelocityVerlet

from mlipbench.adapters.ase import AseAdapter
from mlipbench.adapters.composition import ElementEnergies
from mlipbench.adapters.lj import LennardJonesAdapter, Range
from mlipbench.dynamics import RUNNING, Dynamics, End, Frames, Guards, Halt, State
from mlipbench.execution.dynamics import COLDEST, HOTTEST, Replicas, first_state
from mlipbench.execution.requests import advance_message
from mlipbench.metrics.thermo import conservation, log_log_slope
from mlipbench.models.interface import Adapter, LoadRequest, Predictions
from mlipbench.protocol import MessageKind, ProtocolError, decode, frame_length
from mlipbench.status import Integrator
from mlipbench.structures import StructureBatch
from mlipbench.structures.neighbors import neighbor_list, within
from mlipbench.testing.toys import NullAdapter, SpringAdapter
from mlipbench.worker.md import advance
from mlipbench.worker.session import Session

EMT_CARD = {"calculator": "ase.calculators.emt:EMT"}


def dynamics(**changes):
    settings = {
        "integrator": Integrator.VELOCITY_VERLET, "timestep": 2.0, "temperature": 400.0, "thermostat_steps": 20.0,
        "friction": 0.02, "steps": 40, "save_interval": 5, "checkpoint_interval": 20, "skin": 0.5,
    }  # fmt: skip
    return Dynamics(**{**settings, **changes})


def replicas_of(frames, chosen, bonds=(), lengths=(), stretch=0.5):
    start = StructureBatch.from_atoms(frames)
    guards = Guards(COLDEST, HOTTEST, np.asarray(bonds, np.int64).reshape(-1, 2), np.asarray(lengths, float), stretch)
    masses = np.concatenate([atoms.get_masses() for atoms in frames])
    return Replicas(start, masses, chosen, guards, None)


@pytest.fixture
def session_of(tmp_path):
    opened = []

    def make(adapter):
        opened.append(os.open(tmp_path / f"replies{len(opened)}", os.O_RDWR | os.O_CREAT))
        return Session(reply_fd=opened[-1], loaded=adapter, request=LoadRequest())

    yield make
    for fd in opened:
        os.close(fd)


def simulate(session, replicas, state, *, until=None, begins=True, halts=None, careful=False):
    """Return the state and the frames of one request, taken from its reply as the harness does."""
    told = {"until": until or replicas.dynamics.steps, "begins": begins, "careful": careful}
    reply = advance(session, advance_message(1, replicas, state, halts or {}, told))
    assert reply.kind == MessageKind.ADVANCED
    return State.from_message(reply), Frames.from_arrays(reply.arrays)


def copper(seed):
    atoms = bulk("Cu", cubic=True) * (2, 2, 2)
    atoms.rattle(0.05, seed=seed)
    return atoms


def emt():
    return AseAdapter.load(LoadRequest(kwargs=EMT_CARD))


def begun(replicas, seeds):
    """Return the first state, and for each replica its atoms with ASE's velocities and EMT."""
    state = first_state(replicas, seeds)
    frames = replicas.start.to_atoms()
    for place, atoms in enumerate(frames):
        own = slice(replicas.start.offsets[place], replicas.start.offsets[place + 1])
        atoms.set_velocities(state.velocities[own])
        atoms.calc = EMT()
    return state, frames


def test_velocity_verlet_is_that_of_ase(session_of):
    replicas = replicas_of([copper(1), molecule("CH3CH2OH"), copper(2)], dynamics())
    state, frames = begun(replicas, (3, 4, 5))
    _, found = simulate(session_of(emt()), replicas, state)
    assert found.steps.tolist() == list(range(0, 41, 5))
    for place, atoms in enumerate(frames):
        own = slice(replicas.start.offsets[place], replicas.start.offsets[place + 1])
        ase_md = VelocityVerlet(atoms, timestep=2.0 * units.fs)
        for number in range(len(found.steps)):
            np.testing.assert_allclose(found.positions[number, own], atoms.positions, rtol=0, atol=1e-9)
            np.testing.assert_allclose(found.velocities[number, own], atoms.get_velocities(), rtol=0, atol=1e-9)
            assert found.energy[number, place] == pytest.approx(atoms.get_potential_energy(), abs=1e-8)
            ase_md.run(5)


def test_langevin_is_that_of_ase_with_the_same_random_numbers(session_of):
    chosen = dynamics(integrator=Integrator.LANGEVIN)
    replicas = replicas_of([copper(1), copper(2)], chosen)
    state, frames = begun(replicas, (7, 8))
    sources = []
    for told in state.generators:
        source = np.random.PCG64()
        source.state = told
        sources.append(np.random.Generator(source))
    _, found = simulate(session_of(emt()), replicas, state)
    for place, (atoms, source) in enumerate(zip(frames, sources, strict=True)):
        own = slice(replicas.start.offsets[place], replicas.start.offsets[place + 1])
        ase_md = Langevin(atoms, 2.0 * units.fs, temperature_K=400.0, friction=0.02 / units.fs, fixcm=False, rng=source)
        for number in range(len(found.steps)):
            np.testing.assert_allclose(found.positions[number, own], atoms.positions, rtol=0, atol=1e-8)
            np.testing.assert_allclose(found.velocities[number, own], atoms.get_velocities(), rtol=0, atol=1e-8)
            ase_md.run(5)


def nose_hoover(atoms, timestep, kelvin, ttime, steps):
    """MDSim's update, one line after the other, for one structure."""
    dt, target = timestep * units.fs, 1.5 * len(atoms) * units.kB * kelvin
    inertia, zeta = 3 * len(atoms) * units.kB * kelvin * (ttime * dt) ** 2, 0.0
    masses, velocities = atoms.get_masses()[:, None], atoms.get_velocities()

    def kinetic(v):
        return 0.5 * float(np.sum(masses * v * v))

    for _ in range(steps):
        accel = atoms.get_forces() / masses
        atoms.positions += velocities * dt + (accel - zeta * velocities) * 0.5 * dt**2
        before = kinetic(velocities)
        half = velocities + 0.5 * dt * (accel - zeta * velocities)
        accel = atoms.get_forces() / masses
        zeta += dt / (2 * inertia) * (before - target)
        zeta += dt / (2 * inertia) * (kinetic(half) - target)
        velocities = (half + 0.5 * dt * accel) / (1 + 0.5 * dt * zeta)
    return velocities, zeta


def test_nose_hoover_is_that_of_mdsim(session_of):
    replicas = replicas_of([copper(1), copper(3)], dynamics(integrator=Integrator.NOSE_HOOVER))
    state, frames = begun(replicas, (1, 2))
    last, found = simulate(session_of(emt()), replicas, state)
    for place, atoms in enumerate(frames):
        own = slice(replicas.start.offsets[place], replicas.start.offsets[place + 1])
        velocities, zeta = nose_hoover(atoms, 2.0, 400.0, 20.0, 40)
        np.testing.assert_allclose(found.positions[-1, own], atoms.positions, rtol=0, atol=1e-9)
        np.testing.assert_allclose(last.velocities[own], velocities, rtol=0, atol=1e-9)
        assert last.friction[place] == pytest.approx(zeta, abs=1e-10)


@pytest.mark.parametrize("integrator", list(Integrator))
def test_a_checkpoint_leaves_no_trace(session_of, integrator):
    replicas = replicas_of([copper(1), copper(2)], dynamics(integrator=integrator))
    state, _ = begun(replicas, (5, 6))
    once, frames = simulate(session_of(emt()), replicas, first_state(replicas, (5, 6)))
    middle, first = simulate(session_of(emt()), replicas, state, until=20)
    last, second = simulate(session_of(emt()), replicas, middle, begins=False)
    for name in ("positions", "velocities", "energy", "friction"):
        assert getattr(last, name).tobytes() == getattr(once, name).tobytes()
    np.testing.assert_array_equal(np.concatenate([first.positions, second.positions]), frames.positions)


def argon(seed, n=3):
    """A warm crystal of argon whose cell is no cube, some atoms far outside of it."""
    atoms = bulk("Ar", "fcc", a=5.4) * (n, n, n)
    atoms.rattle(0.1, seed=seed)
    atoms.positions[:4] += 2 * atoms.cell[0] - atoms.cell[1]
    return atoms


def lennard_jones():
    """Argon: A = 4 epsilon sigma^12, B = 4 epsilon sigma^6."""
    epsilon, sigma = 0.0104, 3.4
    coefficients = 4 * epsilon * np.array([[sigma**12, -(sigma**6)]])
    elements = ElementEnergies(np.array([18]), np.zeros(1), np.ones((1, 1)))
    return LennardJonesAdapter(Range(4.8, 6.0), elements, coefficients, np.ones(1, dtype=bool))


@dataclass(frozen=True, eq=False)
class Counting(Adapter):
    """Asks another adapter, and counts the lists that it is given and those that it makes itself."""

    inner: Adapter
    takes_lists: bool
    given: list = field(default_factory=list)

    @classmethod
    def load(cls, request):
        raise NotImplementedError

    @property
    def cutoff(self):
        return self.inner.cutoff if self.takes_lists else None

    def prepare(self, batch, neighbors=None):
        self.given.append((batch, neighbors))
        return self.inner.prepare(batch, neighbors)

    def forward(self, prepared, properties):
        return self.inner.forward(prepared, properties)


def test_lists_with_a_skin_change_nothing_but_their_number(session_of):
    frames = [argon(seed) for seed in range(3)]
    replicas = replicas_of(frames, dynamics(timestep=4.0, temperature=300.0, steps=200, save_interval=20, skin=0.6))
    listed, own = Counting(lennard_jones(), takes_lists=True), Counting(lennard_jones(), takes_lists=False)
    _, with_lists = simulate(session_of(listed), replicas, first_state(replicas, (1, 2, 3)))
    _, without = simulate(session_of(own), replicas, first_state(replicas, (1, 2, 3)))
    np.testing.assert_allclose(with_lists.positions, without.positions, rtol=0, atol=1e-7)
    made = [neighbors for _, neighbors in listed.given]
    assert all(neighbors.cutoff == pytest.approx(6.6) for neighbors in made)
    assert 1 < len({id(neighbors) for neighbors in made}) < 100  # of 201 calls
    assert {neighbors for _, neighbors in own.given} == {None}


def test_models_that_make_their_own_lists_see_atoms_inside_the_cell(session_of):
    own = Counting(lennard_jones(), takes_lists=False)
    replicas = replicas_of([argon(1)], dynamics(timestep=4.0, steps=20))
    _, found = simulate(session_of(own), replicas, first_state(replicas, (1,)))
    for batch, _ in own.given:
        scaled = batch.positions @ np.linalg.inv(batch.cell[0])
        assert scaled.min() >= -1e-12
        assert scaled.max() <= 1 + 1e-12
    first = replicas.start.positions
    assert np.abs(found.positions[0] - first).max() == 0  # what is recorded is not wrapped


def test_lists_hold_every_pair_within_the_cutoff_at_every_step(session_of):
    listed = Counting(lennard_jones(), takes_lists=True)
    replicas = replicas_of([argon(1, 2), argon(2, 2)], dynamics(timestep=5.0, temperature=900.0, steps=60, skin=0.4))
    simulate(session_of(listed), replicas, first_state(replicas, (1, 2)))
    for batch, neighbors in listed.given:
        short, all_pairs = within(neighbors, batch, 6.0), neighbor_list(batch, 6.0)
        assert sorted(zip(short.i, short.j, map(tuple, short.shifts), strict=True)) == sorted(
            zip(all_pairs.i, all_pairs.j, map(tuple, all_pairs.shifts), strict=True)
        )


class Faulty(SpringAdapter):
    """Springs that fail for the second structure from some call on."""

    def __init__(self, fault, call):
        super().__init__({"stiffness": 0.5})
        self.fault, self.call, self.calls = fault, call, 0

    def forward(self, prepared, properties):
        found = super().forward(prepared, properties)
        self.calls += 1
        if self.calls > self.call:
            rows = slice(prepared.offsets[1], prepared.offsets[2])
            if self.fault == "nan":
                found.forces[rows] = np.nan
            elif self.fault == "kick":
                found.forces[rows] = 1e9
            else:
                return Predictions(found.energy, found.forces, None, {1: "three neighbours, at most two are known"})
        return found


def springs(n=3):
    return [Atoms("CuOCu", np.random.default_rng(seed).normal(size=(3, 3))) for seed in range(n)]


@pytest.mark.parametrize(
    ("fault", "kind", "reason", "step"),
    [
        ("nan", End.PHYSICAL, "non-finite forces", 9),
        ("decline", End.REFUSED, "three neighbours, at most two are known", 9),
        ("kick", End.PHYSICAL, "temperature of .* K", 10),
    ],
)
def test_a_replica_that_ends_changes_no_bit_of_the_others(session_of, fault, kind, reason, step):
    replicas = replicas_of(springs(), dynamics(timestep=1.0, temperature=300.0, save_interval=1))
    last, found = simulate(session_of(Faulty(fault, 10)), replicas, first_state(replicas, (1, 2, 3)))
    _, sound = simulate(session_of(Faulty(fault, 10**6)), replicas, first_state(replicas, (1, 2, 3)))
    others = [0, 1, 2, 6, 7, 8]
    assert found.positions[:, others].tobytes() == sound.positions[:, others].tobytes()
    np.testing.assert_array_equal(found.positions[:10], sound.positions[:10])
    assert last.ended.tolist() == [RUNNING, step, RUNNING]
    assert last.kinds[1] == kind
    assert re.fullmatch(reason, last.reasons[1])


def test_a_bond_that_parts_ends_a_replica_at_the_frame_that_shows_it(session_of):
    """An atom leaves a dimer at 0.09 Å a step: too long by 0.45 Å after five steps, and by 0.9 Å after ten."""
    chosen = dynamics(timestep=1.0, save_interval=5, steps=20)
    replicas = replicas_of([Atoms("H2", [[0, 0, 0], [1, 0, 0]])], chosen, bonds=[[0, 1]], lengths=[1.0])
    state = first_state(replicas, (1,))
    state.velocities = np.array([[0.0, 0, 0], [0.09 / units.fs, 0, 0]])
    last, found = simulate(session_of(NullAdapter()), replicas, state)
    assert last.ended.tolist() == [10]
    assert last.reasons[0] == "the bond of atoms 0 and 1 is 1.90 Å long, 1.00 Å on average"
    assert found.positions[2, 1, 0] == pytest.approx(1.9)


def test_halts_are_kept(session_of):
    replicas = replicas_of(springs(), dynamics(timestep=1.0, save_interval=5))
    halts = {2: Halt(7, End.CRASH, "worker killed by SIGSEGV")}
    last, _ = simulate(session_of(Faulty("nan", 10**6)), replicas, first_state(replicas, (1, 2, 3)), halts=halts)
    assert (last.ended[2], last.kinds[2], last.reasons[2]) == (7, End.CRASH, "worker killed by SIGSEGV")


def test_careful_requests_tell_every_step(session_of, tmp_path):
    replicas = replicas_of(springs(), dynamics(timestep=1.0, steps=6, save_interval=3))
    session = session_of(SpringAdapter({}))
    last, _ = simulate(session, replicas, first_state(replicas, (1, 2, 3)), careful=True)
    content = (tmp_path / "replies0").read_bytes()
    told = []
    while content:
        length = frame_length(content)
        told.append(decode(content[:length]))
        content = content[length:]
    assert [message.header["step"] for message in told] == list(range(7))
    np.testing.assert_array_equal(told[-1].arrays["positions"], last.positions)


def test_velocities_at_the_start_have_the_temperature_and_the_seed_of_the_replica():
    atoms = bulk("Cu", cubic=True) * (8, 8, 8)
    replicas = replicas_of([atoms, atoms], dynamics(temperature=400.0))
    state = first_state(replicas, (1, 2))
    again = first_state(replicas_of([atoms], dynamics(temperature=400.0)), (2,))
    second = state.velocities[len(atoms) :]
    np.testing.assert_array_equal(second, again.velocities)
    atoms.set_velocities(second)
    # the standard error of the temperature of N atoms is T sqrt(2 / 3N)
    assert atoms.get_temperature() == pytest.approx(400, abs=4 * 400 * np.sqrt(2 / (3 * len(atoms))))


@pytest.mark.parametrize("timestep", [1.0, 2.0])
def test_the_total_energy_of_a_conservative_model_is_kept(session_of, timestep):
    replicas = replicas_of([copper(1)], dynamics(timestep=timestep, temperature=300.0, steps=100, save_interval=1))
    _, found = simulate(session_of(emt()), replicas, first_state(replicas, (1,)))
    masses = replicas.masses[None, :, None]
    total = found.energy[:, 0] + 0.5 * np.sum(masses * found.velocities**2, axis=(1, 2))
    assert np.std(total) / len(replicas.masses) < 2e-5 * timestep**2


def test_fluctuations_grow_with_the_square_of_the_time_step_and_nothing_drifts(session_of):
    """A smooth conservative potential in float64: slope 2, and a drift whose interval holds 0."""
    timesteps, kept = (4.0, 8.0, 16.0), []
    for timestep in timesteps:
        steps = round(6400 / timestep)
        chosen = dynamics(timestep=timestep, temperature=80.0, steps=steps, save_interval=steps // 200)
        replicas = replicas_of([argon(1, 2)], chosen)
        _, found = simulate(session_of(lennard_jones()), replicas, first_state(replicas, (4,)))
        n_atoms = len(replicas.masses)
        kinetic = 0.5 * np.sum(replicas.masses[None, :, None] * found.velocities**2, axis=(1, 2))
        times = found.steps * timestep / 1000
        half = len(times) // 4  # the crystal warms up first
        kept.append(conservation(times[half:], (found.energy[:, 0] + kinetic)[half:], n_atoms))
    slope = log_log_slope(np.asarray(timesteps), np.asarray([one.fluctuation for one in kept]))
    assert slope.value == pytest.approx(2.0, abs=0.2)
    assert kept[0].drift.low <= 0 <= kept[0].drift.high


def test_incomplete_requests_are_refused(session_of):
    replicas = replicas_of(springs(), dynamics())
    message = advance_message(1, replicas, first_state(replicas, (1, 2, 3)), {}, {"until": 1, "begins": True})
    with pytest.raises(ProtocolError, match="incomplete"):
        advance(session_of(SpringAdapter({})), message)

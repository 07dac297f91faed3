"""Molecular dynamics: one replica against the loops of ASE and of torch-sim, many replicas, and what the harness adds.

The system is a frame of mini-lips (64 atoms); of LiPS (83 atoms), where MLIPBENCH_TEST_DATA names a folder with its
sample. All loops are velocity Verlet with the same model on one thread; those of ASE and torch-sim search neighbours
anew at each step, as their interfaces have models do.
"""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from ase import units
from ase.calculators.calculator import Calculator, all_changes
from ase.data import atomic_masses
from ase.md.verlet import VelocityVerlet
from conftest import interleaved

from mlipbench.adapters.lj import LennardJonesAdapter
from mlipbench.cachedir import default_cache
from mlipbench.datasets.entry import load_entry
from mlipbench.datasets.prepare import DataLocation, open_split
from mlipbench.dynamics import Dynamics, Guards, State
from mlipbench.execution.dynamics import COLDEST, HOTTEST, Replicas, first_state
from mlipbench.execution.requests import advance_message
from mlipbench.models.interface import LabelledBatch, LoadRequest, Property
from mlipbench.status import Integrator
from mlipbench.structures import StructureBatch
from mlipbench.worker.md import advance
from mlipbench.worker.session import Session

torch = pytest.importorskip("torch")
pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(7200)]

TIMESTEP = 0.25  # fs
BOTH = frozenset({Property.ENERGY, Property.FORCES})
RECIPE = """\
recipe: loops
version: 1
model: leignn
dataset: mini-lips
preset: small
train: {split: train}
validation: {split: val}
energy_reference: mean
loss: {kind: l1, energy: 1.0, forces: 50.0}
learning_rates: [4.0e-3]
schedule: {kind: cosine, warmup: 0.02}
batch: 2
steps: 300
evaluate_every: 300
"""
FASTER_THAN_LOOPS = 1.0
SHARE_OF_LEIGNN = 0.05
SECONDS_OF_LJ = 50e-6  # per step of a replica, at 64 replicas


def location():
    folder = os.environ.get("MLIPBENCH_TEST_DATA")
    return DataLocation(Path(folder) if folder else None, default_cache())


def frames():
    """Return the training frames of LiPS's sample, or of mini-lips."""
    sample = "MLIPBENCH_TEST_DATA" in os.environ
    return open_split(load_entry("lips-sample" if sample else "mini-lips"), "train", location())


def lennard_jones():
    split = frames()
    labels = split.labels(0, 100)
    kwargs = {"cutoff": 6.0}
    training = LabelledBatch(split.structures(0, 100), labels.energy, labels.forces)
    parameters = LennardJonesAdapter.fit(training, kwargs)
    return LennardJonesAdapter.load(LoadRequest(kwargs=kwargs, parameters=parameters))


def leignn():
    from mlipbench.adapters.nets import NetsAdapter

    return NetsAdapter.load(LoadRequest(dtype="float32", checkpoint=str(trained())))


@cache
def trained():
    """Return a LEIGNN of the size that comparisons of networks here have, trained just enough to hold together."""
    folder = Path(tempfile.mkdtemp(prefix="mlipbench-leignn-"))
    atexit.register(shutil.rmtree, folder)
    (folder / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    command = [sys.executable, "-m", "mlipbench", "train", "recipe.yaml", "--output", "weights", "--display", "none"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder / "weights"


class Ours:
    """Replicas that go on by stretches."""

    def __init__(self, adapter, n):
        batch = frames().structures(0, n)
        dynamics = Dynamics(Integrator.VELOCITY_VERLET, TIMESTEP, 520.0, 20.0, 0.01, 10**6, 50, 1000, 1.0)
        guards = Guards(COLDEST, HOTTEST, np.zeros((0, 2), np.int64), np.zeros(0), 0.0)
        self.replicas = Replicas(batch, atomic_masses[batch.numbers], dynamics, guards, None)
        request = LoadRequest()
        self.session = Session(reply_fd=os.open(os.devnull, os.O_WRONLY), loaded=adapter, request=request)
        self.state, self.header = first_state(self.replicas, tuple(range(n))), {}

    def run(self, steps):
        told = {"until": self.state.step + steps, "begins": self.state.step == 0, "careful": False}
        reply = advance(self.session, advance_message(1, self.replicas, self.state, {}, told))
        self.state, self.header = State.from_message(reply), dict(reply.header)
        assert self.state.running.all()  # replicas that have ended cost nothing

    def own_share(self):
        """Return the seconds that are not the model's, and those that are, of the last stretch."""
        model = self.header["prepare_seconds"] + self.header["forward_seconds"]
        return self.header["seconds"] - model, model


class AsCalculator(Calculator):
    """An adapter as ASE has it."""

    implemented_properties = ("energy", "forces")

    def __init__(self, adapter):
        super().__init__()
        self.adapter = adapter

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        found = self.adapter.predict(StructureBatch.from_atoms([atoms]), BOTH)
        self.results = {"energy": float(found.energy[0]), "forces": found.forces}


def by_ase(adapter, ours):
    atoms = ours.replicas.start.to_atoms()[0]
    atoms.set_velocities(first_state(ours.replicas, (0,)).velocities)
    atoms.calc = AsCalculator(adapter)
    return VelocityVerlet(atoms, timestep=TIMESTEP * units.fs)


class TorchSim:
    """A state of torch-sim and its own step."""

    def __init__(self, state, step):
        self.state, self.step = state, step

    def run(self, steps):
        for _ in range(steps):
            self.state = self.step(self.state)


def by_torch_sim(adapter, ours):
    """Return torch-sim's own loop without a thermostat."""
    sim = pytest.importorskip("torch_sim", reason="needs torch-sim-atomistic 0.3")
    from torch_sim.integrators import nve
    from torch_sim.models.interface import ModelInterface

    class Model(ModelInterface):
        def __init__(self):
            super().__init__()
            self._device, self._dtype = torch.device("cpu"), torch.float64
            self._compute_forces, self._compute_stress = True, False

        def forward(self, state):
            counts = torch.bincount(state.system_idx).numpy()
            batch = StructureBatch(
                numbers=state.atomic_numbers.numpy(),
                positions=state.positions.numpy(),
                cell=state.row_vector_cell.numpy(),
                pbc=np.ones((len(counts), 3), dtype=bool),
                offsets=np.concatenate([[0], np.cumsum(counts)]),
            )
            found = adapter.predict(batch, BOTH)
            return {"energy": torch.from_numpy(found.energy), "forces": torch.from_numpy(found.forces)}

    atoms = ours.replicas.start.to_atoms()
    model = Model()
    state = sim.initialize_state(atoms, model.device, model.dtype)
    timestep = torch.tensor(TIMESTEP * units.fs, dtype=torch.float64)
    thermal = torch.tensor(520 * units.kB, dtype=torch.float64)
    begin, step = nve(model, dt=timestep, kT=thermal)
    return TorchSim(begin(state), step)


@pytest.mark.parametrize(("make", "steps"), [(lennard_jones, 200), (leignn, 100)])
def test_one_replica_against_the_loops_of_others(benchmark, make, steps):
    torch.set_num_threads(1)
    adapter = make()
    ours = Ours(adapter, 1)
    ours.run(20)
    candidates = {"ours": lambda: ours.run(steps), "ase": lambda: by_ase_loop.run(steps)}
    by_ase_loop = by_ase(adapter, ours)
    try:
        torch_sim_loop = by_torch_sim(adapter, Ours(adapter, 1))
        candidates["torch_sim"] = lambda: torch_sim_loop.run(steps)
    except pytest.skip.Exception:
        benchmark.extra_info["torch_sim"] = "not installed"
    seconds = dict(zip(candidates, interleaved(7, *candidates.values()), strict=True))
    for name, taken in seconds.items():
        benchmark.extra_info[f"{name}_steps_per_second"] = steps / float(np.median(taken))
    benchmark.pedantic(candidates["ours"], rounds=1)
    ratios = [
        float(np.median(np.asarray(taken) / np.asarray(seconds["ours"])))
        for name, taken in seconds.items()
        if name != "ours"
    ]
    benchmark.extra_info["time_of_the_fastest_other_over_ours"] = min(ratios)
    assert min(ratios) >= FASTER_THAN_LOOPS


def test_torch_sim_takes_the_same_path(benchmark):
    """Both are velocity Verlet in float64 with one model; only rounding is between them, and torch-sim wraps atoms."""
    adapter = lennard_jones()
    ours = Ours(adapter, 1)
    other = by_torch_sim(adapter, ours)
    other.state.momenta = torch.from_numpy(ours.state.velocities * ours.replicas.masses[:, None])
    benchmark.pedantic(lambda: ours.run(100), rounds=1)
    other.run(100)
    between = (other.state.positions.numpy() - ours.state.positions) @ np.linalg.inv(ours.replicas.start.cell[0])
    np.testing.assert_allclose(between - np.rint(between), 0, atol=1e-7)


@pytest.mark.parametrize(("make", "steps"), [(lennard_jones, 400), (leignn, 100)])
def test_many_replicas(benchmark, make, steps):
    torch.set_num_threads(1)
    adapter = make()
    for n in (1, 8, 64):
        ours = Ours(adapter, n)
        ours.run(2)
        chosen = max(20, steps // n)
        begun = time.perf_counter()
        ours.run(chosen)
        atom_steps = chosen * ours.replicas.start.n_atoms / (time.perf_counter() - begun)
        own, model = ours.own_share()
        benchmark.extra_info[f"{n}_atom_steps_per_second"] = atom_steps
        benchmark.extra_info[f"{n}_own_share_of_the_model"] = own / model
        benchmark.extra_info[f"{n}_own_microseconds_per_step_of_a_replica"] = own / chosen / n * 1e6
    benchmark.pedantic(lambda: ours.run(5), rounds=1)


def test_what_the_harness_adds_to_leignn(benchmark):
    """In stretches of half the length that the suites have between two checkpoints, where every list is made anew."""
    torch.set_num_threads(1)
    ours = Ours(leignn(), 1)
    ours.run(20)
    shares = []
    for _ in range(5):
        ours.run(500)
        own, model = ours.own_share()
        shares.append(own / model)
    benchmark.pedantic(lambda: ours.run(20), rounds=1)
    benchmark.extra_info["own_share_of_the_model"] = float(np.median(shares))
    assert np.median(shares) < SHARE_OF_LEIGNN


def test_what_the_harness_adds_to_a_step_of_lennard_jones(benchmark):
    """Of 64 replicas; the stretch holds the making of every list once, as one between two checkpoints does."""
    ours = Ours(lennard_jones(), 64)
    ours.run(2)
    ours.run(500)
    own, _ = ours.own_share()
    benchmark.pedantic(lambda: ours.run(5), rounds=1)
    benchmark.extra_info["own_seconds_per_step_of_a_replica"] = own / 500 / 64
    assert own / 500 / 64 < SECONDS_OF_LJ

"""Whether dynamics without a thermostat conserve the energy, and how that depends on the time step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from mlipbench.dynamics import RUNNING, Dynamics, State, thermal_velocities
from mlipbench.metrics.thermo import conservation, log_log_slope
from mlipbench.status import Integrator
from mlipbench.worker.integrators import VelocityVerlet

if TYPE_CHECKING:
    from mlipbench.metrics.thermo import Conservation
    from mlipbench.structures import StructureBatch
    from mlipbench.typing import FloatArray
    from mlipbench.worker.physics.model import Answers, Model

_MULTIPLES: Final = (1, 2, 4)
"""Time steps, in units of the given one."""
_FS: Final = 1000.0
"""In a ps."""
_MEV: Final = 1000.0
"""In an eV."""


@dataclass(frozen=True, slots=True)
class NVE:
    """How a structure is propagated; `mlipbench.suite.tasks.NVE` explains the fields.

    Attributes:
        timestep: fs.
        temperature: K.
        steps: Steps at that time step; fewer at larger ones, for the same time.
    """

    timestep: float
    temperature: float
    steps: int


def probe_dynamics(model: Model, structure: StructureBatch, nve: NVE, seed: int) -> dict[str, float]:
    """Return the drift of the total energy, and the power of the time step that its fluctuation grows with.

    All atoms move, also those that the structure holds fixed.

    Args:
        model: The model.
        structure: A single structure of at least two atoms.
        nve: How it is propagated.
        seed: Of the velocities.
    """
    walkers = _simulate(model, structure, nve, seed)
    kept = [walker.conserved(structure.n_atoms) for walker in walkers]
    drift = abs(float(kept[0].drift.value or 0.0))
    found = {"nve_drift": drift}
    spread = float(np.std(walkers[0].kinetic)) * _MEV / structure.n_atoms
    if spread > 0:
        found["nve_drift_relative"] = drift * float(walkers[0].times[-1]) / spread
    fluctuations = np.array([one.fluctuation for one in kept])
    if np.all(fluctuations > 0):
        found["timestep_exponent"] = float(log_log_slope(np.array(_MULTIPLES), fluctuations).value or 0.0)
    return found


def _simulate(model: Model, structure: StructureBatch, nve: NVE, seed: int) -> list[_Walker]:
    """Propagate a structure with each multiple of the time step for the same time, side by side."""
    masses = _masses(structure)
    drawn = thermal_velocities(masses, nve.temperature, np.random.default_rng(seed))
    drawn -= (masses @ drawn) / masses.sum()  # the whole stays where it is
    here = model.moved(structure, structure.positions[None])
    walkers = [_Walker.of(structure, masses, nve, multiple, (drawn, here)) for multiple in _MULTIPLES]
    for step in range(nve.steps):
        going_on = [walker for walker in walkers if step < walker.steps]
        for walker in going_on:
            walker.stepper.move(walker.state)
        found = model.moved(structure, np.stack([walker.state.positions for walker in going_on]))
        for walker, energy, forces in zip(going_on, found.energy.tolist(), found.forces, strict=True):
            walker.stepper.arrive(walker.state, forces)
            walker.note(energy)
    return walkers


@dataclass(slots=True, eq=False)
class _Walker:
    """One simulation.

    Attributes:
        timestep: ps.
        steps: Steps that it takes.
        stepper: Its integrator.
        state: Where it is.
        energies: Kinetic and potential energies so far, eV.
    """

    timestep: float
    steps: int
    stepper: VelocityVerlet
    state: State
    energies: list[tuple[float, float]] = field(default_factory=list)

    @classmethod
    def of(
        cls, structure: StructureBatch, masses: FloatArray, nve: NVE, multiple: int, start: tuple[FloatArray, Answers]
    ) -> _Walker:
        """Return a simulation at its start, which velocities and the model's answer there make."""
        drawn, here = start
        steps = nve.steps // multiple
        timestep = nve.timestep * multiple
        settings = Dynamics(Integrator.VELOCITY_VERLET, timestep, nve.temperature, 1.0, 1.0, steps, 1, 1, 0.0)
        stepper = VelocityVerlet(settings, masses, structure.structure_index, 1)
        walker = cls(timestep / _FS, steps, stepper, _state(structure, drawn, here))
        walker.note(float(here.energy[0]))
        return walker

    def note(self, potential: float) -> None:
        """Keep the energies of a step."""
        self.energies.append((float(self.stepper.kinetic(self.state.velocities)[0]), potential))

    @property
    def times(self) -> FloatArray:
        """Of the energies, ps."""
        return self.timestep * np.arange(len(self.energies), dtype=np.float64)

    @property
    def kinetic(self) -> FloatArray:
        """Kinetic energies, eV."""
        return np.array([kinetic for kinetic, _ in self.energies])

    def conserved(self, n_atoms: int) -> Conservation:
        """Return drift and fluctuation of the total energy."""
        total = np.array(self.energies).sum(axis=1)
        return conservation(self.times, total - total[0], n_atoms)


def _state(structure: StructureBatch, drawn: FloatArray, here: Answers) -> State:
    return State(
        step=0,
        positions=structure.positions.copy(),
        velocities=drawn.copy(),
        forces=here.forces[0],
        energy=here.energy,
        friction=np.zeros(1),
        ended=np.full(1, RUNNING),
        kinds=np.zeros(1, dtype=np.int64),
    )


def _masses(structure: StructureBatch) -> FloatArray:
    from ase.data import atomic_masses

    masses: FloatArray = atomic_masses[structure.numbers]
    return masses

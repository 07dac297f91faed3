"""Whether dynamics without a thermostat conserve the energy, and how that depends on the time step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np
from ase.units import kB

from mlipbench.dynamics import RUNNING, Dynamics, State
from mlipbench.status import Integrator
from mlipbench.worker.integrators import VelocityVerlet

if TYPE_CHECKING:
    from mlipbench.structures import StructureBatch
    from mlipbench.typing import FloatArray
    from mlipbench.worker.physics.model import Answers, Model

_MULTIPLES: Final = (1, 2, 4)
"""Time steps, in units of the given one."""
_PER_PS: Final = 1000.0
_MEV: Final = 1000.0


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
    runs = _simulate(model, structure, nve, seed)
    first = runs[0]
    spread = float(np.std(first.kinetic))
    drift = abs(first.slope) * first.times[-1]
    found = {"nve_drift": abs(first.slope) / structure.n_atoms * _MEV * _PER_PS}
    if spread > 0:
        found["nve_drift_relative"] = drift / spread
    fluctuations = np.array([run.fluctuation for run in runs])
    if np.all(fluctuations > 0):
        found["timestep_exponent"] = float(np.polyfit(np.log(_MULTIPLES), np.log(fluctuations), 1)[0])
    return found


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """Energies of one simulation.

    Attributes:
        times: Shape (n,), fs.
        kinetic: Shape (n,), eV.
        total: Shape (n,), eV.
    """

    times: FloatArray
    kinetic: FloatArray
    total: FloatArray

    @property
    def slope(self) -> float:
        """Of the total energy by least squares, eV/fs."""
        return float(np.polyfit(self.times, self.total - self.total[0], 1)[0])

    @property
    def fluctuation(self) -> float:
        """Root mean square of the total energy about its drift, eV."""
        deviation = self.total - self.total[0]
        return float(np.std(deviation - np.polyval(np.polyfit(self.times, deviation, 1), self.times)))


def _simulate(model: Model, structure: StructureBatch, nve: NVE, seed: int) -> list[Run]:
    """Propagate a structure with each multiple of the time step for the same time, side by side."""
    masses = _masses(structure)
    drawn = velocities(masses, nve.temperature, seed)
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
    return [walker.run(nve) for walker in walkers]


@dataclass(slots=True, eq=False)
class _Walker:
    """One simulation under way.

    Attributes:
        multiple: Its time step, in units of the given one.
        steps: Steps that it takes.
        stepper: Its integrator.
        state: Where it is.
        energies: Kinetic and potential energies so far, eV.
    """

    multiple: int
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
        walker = cls(multiple, steps, stepper, _state(structure, drawn, here))
        walker.note(float(here.energy[0]))
        return walker

    def note(self, potential: float) -> None:
        """Keep the energies of a step."""
        self.energies.append((float(self.stepper.kinetic(self.state.velocities)[0]), potential))

    def run(self, nve: NVE) -> Run:
        """Return what was kept."""
        kinetic, potential = np.array(self.energies).T
        times = nve.timestep * self.multiple * np.arange(self.steps + 1, dtype=np.float64)
        return Run(times, kinetic, kinetic + potential)


def velocities(masses: FloatArray, temperature: float, seed: int) -> FloatArray:
    """Return velocities drawn from the distribution of Maxwell and Boltzmann, without motion of the whole.

    Args:
        masses: Shape (n_atoms,), u.
        temperature: K.
        seed: Of the draw.
    """
    drawn = np.random.default_rng(seed).standard_normal((len(masses), 3))
    thermal: FloatArray = drawn * np.sqrt(kB * temperature / masses)[:, None]
    still: FloatArray = thermal - (masses @ thermal) / masses.sum()
    return still


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

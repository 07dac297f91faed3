"""One step of molecular dynamics, for many replicas side by side.

A step has two halves, before and after the forces at the new positions are known. Replicas do not see each other:
whatever becomes of one changes no bit of the others.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.units import fs, kB

from mlipbench.status import Integrator

if TYPE_CHECKING:
    from mlipbench.dynamics import Dynamics, State
    from mlipbench.typing import FloatArray, IntArray


class Stepper(ABC):
    """An integrator.

    Args:
        dynamics: Its settings.
        masses: Shape (n_atoms,), u.
        owner: Shape (n_atoms,), the replica of each atom, counted from 0 without gaps.
        n_replicas: Number of replicas.
    """

    def __init__(self, dynamics: Dynamics, masses: FloatArray, owner: IntArray, n_replicas: int) -> None:
        """Keep what does not change."""
        self.dt = dynamics.timestep * fs
        self.kT = kB * dynamics.temperature
        self.masses = np.repeat(masses, 3).reshape(-1, 3)  # so that no operation has rows of three to walk through
        self._owner = owner
        self._starts = np.searchsorted(owner, np.arange(n_replicas))
        self.counts = np.bincount(owner, minlength=n_replicas)
        self._arrived: FloatArray | None = None  # kinetic energies of the velocities as `temperature` last saw them

    @abstractmethod
    def move(self, state: State) -> None:
        """Bring the positions to the next step."""

    @abstractmethod
    def arrive(self, state: State, forces: FloatArray) -> None:
        """Bring the velocities to the next step, now that the forces there are known.

        Args:
            state: The state, whose positions `move` has brought forward.
            forces: Shape (n_atoms, 3), eV/Å.
        """

    def generators(self, state: State) -> list[dict[str, Any]]:
        """Return the states of the random numbers as they are now."""
        return state.generators

    def kinetic(self, velocities: FloatArray) -> FloatArray:
        """Return the kinetic energy of each replica, shape (n_replicas,), eV."""
        per_atom = np.einsum("ik,ik->i", velocities, velocities * self.masses)
        energies: FloatArray = 0.5 * np.add.reduceat(per_atom, self._starts)
        return energies

    def temperature(self, velocities: FloatArray) -> FloatArray:
        """Return the temperature of each replica at the end of a step, K, by equipartition over 3 N degrees of freedom.

        Args:
            velocities: Shape (n_atoms, 3), from which the next step goes on.
        """
        self._arrived = self.kinetic(velocities)
        found: FloatArray = self._arrived / (1.5 * kB * self.counts)
        return found


class VelocityVerlet(Stepper):
    """Velocity Verlet (Swope et al., Journal of Chemical Physics 76 (1982) 637), which conserves the energy."""

    def move(self, state: State) -> None:
        """Half a step of the velocities, then a step of the positions."""
        state.velocities += 0.5 * self.dt * state.forces / self.masses
        state.positions += self.dt * state.velocities

    def arrive(self, state: State, forces: FloatArray) -> None:
        """The other half of the velocities."""
        state.forces = forces
        state.velocities += 0.5 * self.dt * forces / self.masses


class NoseHoover(Stepper):
    """The Nosé-Hoover update of MDSim (``mdsim/md/integrator.py``), to the order of its operations.

    With K0 = 3 N kT / 2 and Q = 3 N kT (ttime dt)²::

        x    <- x + v dt + (F/m - ζ v) dt²/2
        v_h  =  v + dt/2 (F/m - ζ v)
        ζ    <- ζ + dt/(2 Q) (K(v) - K0),  then  ζ <- ζ + dt/(2 Q) (K(v_h) - K0)
        v    <- (v_h + dt/2 F(x)/m) / (1 + dt/2 ζ)
    """

    def __init__(self, dynamics: Dynamics, masses: FloatArray, owner: IntArray, n_replicas: int) -> None:
        """Work out the mass of the thermostat."""
        super().__init__(dynamics, masses, owner, n_replicas)
        self._target = 1.5 * self.counts * self.kT
        inertia = 3.0 * self.counts * self.kT * (dynamics.thermostat_steps * self.dt) ** 2
        self._pace = 0.5 * self.dt / inertia
        self._before = np.zeros(n_replicas)

    def move(self, state: State) -> None:
        """A step of the positions and half a step of the velocities, with the friction as it is."""
        acceleration = state.forces / self.masses - state.friction.take(self._owner)[:, None] * state.velocities
        state.positions += state.velocities * self.dt + acceleration * (0.5 * self.dt * self.dt)
        self._before = self.kinetic(state.velocities) if self._arrived is None else self._arrived
        state.velocities += 0.5 * self.dt * acceleration

    def arrive(self, state: State, forces: FloatArray) -> None:
        """A step of the friction, and the other half of the velocities."""
        state.friction += self._pace * (self._before - self._target)
        state.friction += self._pace * (self.kinetic(state.velocities) - self._target)
        state.forces = forces
        state.velocities += 0.5 * self.dt * forces / self.masses
        state.velocities /= (1.0 + 0.5 * self.dt * state.friction.take(self._owner))[:, None]


class Langevin(Stepper):
    """Langevin dynamics of second order (Vanden-Eijnden and Ciccotti, Chemical Physics Letters 429 (2006) 310).

    As ASE's ``Langevin`` without its correction of the centre of mass. Each replica draws from a generator of its own.
    """

    def __init__(self, dynamics: Dynamics, masses: FloatArray, owner: IntArray, n_replicas: int) -> None:
        """Work out the coefficients."""
        super().__init__(dynamics, masses, owner, n_replicas)
        dt, friction = self.dt, dynamics.friction / fs
        sigma = np.sqrt(2.0 * self.kT * friction / self.masses)
        self._push = dt / 2.0 - dt * dt * friction / 8.0
        self._drag = dt * friction / 2.0 - dt * dt * friction * friction / 8.0
        self._c3 = np.sqrt(dt) * sigma / 2.0 - dt**1.5 * friction * sigma / 8.0
        self._c5 = dt**1.5 * sigma / (2.0 * np.sqrt(3.0))
        self._c4 = friction / 2.0 * self._c5
        self._kick = np.zeros((0, 3))
        self._generators: list[np.random.Generator] = []

    def move(self, state: State) -> None:
        """Draw, half a step of the velocities, then a step of the positions."""
        xi, eta = self._draw(state)
        self._kick = self._c3 * xi - self._c4 * eta
        jump = self._c5 * eta
        self._half(state, state.forces)
        state.positions += self.dt * state.velocities + jump

    def arrive(self, state: State, forces: FloatArray) -> None:
        """The other half of the velocities, with the same random numbers."""
        state.forces = forces
        self._half(state, forces)

    def _half(self, state: State, forces: FloatArray) -> None:
        state.velocities += self._push * forces / self.masses - self._drag * state.velocities + self._kick

    def generators(self, state: State) -> list[dict[str, Any]]:
        """Return the states of the random numbers as they are now."""
        if not self._generators:
            return state.generators
        return [dict(generator.bit_generator.state) for generator in self._generators]

    def _draw(self, state: State) -> tuple[FloatArray, FloatArray]:
        if not self._generators:
            self._generators = [_restored(told) for told in state.generators]
        draws = [
            generator.standard_normal((2, n, 3)) for generator, n in zip(self._generators, self.counts, strict=True)
        ]
        xi, eta = np.concatenate(draws, axis=1)
        return xi, eta


def _restored(told: dict[str, Any]) -> np.random.Generator:
    source = np.random.PCG64(0)
    source.state = told  # type: ignore[assignment]  # what a generator said of itself
    return np.random.Generator(source)


def stepper(dynamics: Dynamics, masses: FloatArray, owner: IntArray, n_replicas: int) -> Stepper:
    """Return the integrator that `dynamics` names; the arguments are those of `Stepper`."""
    classes: dict[Integrator, type[NoseHoover | Langevin | VelocityVerlet]] = {
        Integrator.NOSE_HOOVER: NoseHoover,
        Integrator.LANGEVIN: Langevin,
        Integrator.VELOCITY_VERLET: VelocityVerlet,
    }
    return classes[dynamics.integrator](dynamics, masses, owner, n_replicas)

"""Molecular dynamics: what the side that decides and the side beside the model tell each other.

Lengths are in Å, energies in eV, masses in u and velocities in Å per ASE unit of time, which is Å √(u/eV) = 10.18 fs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from mlipbench.protocol import ProtocolError
from mlipbench.status import Integrator

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlipbench.protocol import Message
    from mlipbench.typing import AnyArray, BoolArray, FloatArray, IntArray

RUNNING: Final = -1
"""Stands in `State.ended` for a replica that has not ended."""


class End(IntEnum):
    """How a replica ended."""

    COMPLETED = 0
    PHYSICAL = 1  # what it simulated fell apart
    TIMEOUT = 2
    OUT_OF_MEMORY = 3
    CRASH = 4
    REFUSED = 5  # the model does not cover what the replica became


@dataclass(frozen=True, slots=True)
class Dynamics:
    """How replicas are propagated; `mlipbench.suite.schema.MDTask` explains the fields.

    Attributes:
        integrator: The integrator.
        timestep: fs.
        temperature: K.
        thermostat_steps: Relaxation time of the Nosé-Hoover thermostat, steps.
        friction: Friction of Langevin dynamics, 1/fs.
        steps: Steps of a replica.
        save_interval: Steps between two frames.
        checkpoint_interval: Steps between two checkpoints, a multiple of `save_interval`.
        skin: Å, by which a neighbour list of the harness reaches beyond the model's cutoff.
    """

    integrator: Integrator
    timestep: float
    temperature: float
    thermostat_steps: float
    friction: float
    steps: int
    save_interval: int
    checkpoint_interval: int
    skin: float

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> Self:
        """Return the settings among the parameters of a task, by name.

        Raises:
            ProtocolError: One is missing.
        """
        try:
            given = {name: parameters[name] for name in cls.__dataclass_fields__}
            return cls(**{**given, "integrator": Integrator(given["integrator"])})
        except (KeyError, TypeError, ValueError) as error:
            raise ProtocolError("a request for dynamics does not name its settings") from error


def thermal_velocities(masses: FloatArray, temperature: float, generator: np.random.Generator) -> FloatArray:
    """Draw velocities of Maxwell and Boltzmann, shape (n_atoms, 3); the whole may move.

    Args:
        masses: Shape (n_atoms,), u.
        temperature: K.
        generator: Draws three numbers for each atom.
    """
    from ase.units import kB

    widths = np.sqrt(kB * temperature / masses)
    drawn: FloatArray = generator.standard_normal((len(masses), 3)) * widths[:, None]
    return drawn


@dataclass(frozen=True, slots=True)
class Halt:
    """The last step that a replica is to complete, because the model does not survive the next one.

    Attributes:
        step: The step.
        kind: How the replica ends there.
        reason: Why.
    """

    step: int
    kind: End
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class Guards:
    """What ends a replica while it runs, besides numbers that are not finite; looked at as MDSim does.

    Attributes:
        coldest: K, temperature below which a replica ends; looked at after every step.
        hottest: K, likewise above.
        bonds: Shape (n_bonds, 2), pairs of atoms of the batch that may not part; looked at in every frame.
        lengths: Shape (n_bonds,), Å, their reference lengths.
        stretch: Å, deviation from the reference length at which a replica ends.
    """

    coldest: float
    hottest: float
    bonds: IntArray
    lengths: FloatArray
    stretch: float

    def arrays(self) -> dict[str, AnyArray]:
        """Return the guards as arrays of a message."""
        limits = np.asarray([self.coldest, self.hottest, self.stretch])
        return {"guard_limits": limits, "guard_bonds": self.bonds, "guard_lengths": self.lengths}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> Self:
        """Return the guards that stand in a message."""
        coldest, hottest, stretch = arrays["guard_limits"].tolist()
        return cls(coldest, hottest, arrays["guard_bonds"], arrays["guard_lengths"], stretch)


@dataclass(slots=True, eq=False)
class State:
    """Where the replicas of a batch are; all that the next step depends on.

    Attributes:
        step: Steps that all replicas that have not ended have completed.
        positions: Shape (n_atoms, 3), Å, not wrapped.
        velocities: Shape (n_atoms, 3).
        forces: Shape (n_atoms, 3), eV/Å, of these positions; NaN before the model was called for the first time.
        energy: Shape (n_replicas,), eV, likewise.
        friction: Shape (n_replicas,), the thermostat variable of Nosé and Hoover, per unit of time.
        ended: Shape (n_replicas,), the last step that a replica completed, `RUNNING` while it goes on.
        kinds: Shape (n_replicas,), `End` of each replica.
        reasons: Why replicas ended, by place.
        generators: States of the replicas' random numbers, where the integrator draws any.
    """

    step: int
    positions: FloatArray
    velocities: FloatArray
    forces: FloatArray
    energy: FloatArray
    friction: FloatArray
    ended: IntArray
    kinds: IntArray
    reasons: dict[int, str] = field(default_factory=dict)
    generators: list[dict[str, Any]] = field(default_factory=list)

    @property
    def running(self) -> BoolArray:
        """Shape (n_replicas,), which replicas go on."""
        return np.asarray(self.ended == RUNNING)

    def end(self, place: int, step: int, kind: End, reason: str) -> None:
        """Let a replica end after `step`."""
        self.ended[place], self.kinds[place], self.reasons[place] = step, kind, reason

    def header(self) -> dict[str, Any]:
        """Return what of the state is no array."""
        reasons = {str(place): reason for place, reason in self.reasons.items()}
        return {"step": self.step, "reasons": reasons, "generators": self.generators}

    def arrays(self) -> dict[str, AnyArray]:
        """Return the arrays of the state, by names of their own."""
        names = ("positions", "velocities", "forces", "energy", "friction", "ended", "kinds")
        return {f"state_{name}": getattr(self, name) for name in names}

    @classmethod
    def from_message(cls, message: Message) -> Self:
        """Return the state that a message holds; its arrays are copies.

        Raises:
            ProtocolError: It holds none.
        """
        try:
            told = message.header["state"]
            arrays = {name[6:]: np.array(array) for name, array in message.arrays.items() if name.startswith("state_")}
            reasons = {int(place): reason for place, reason in told["reasons"].items()}
            return cls(step=told["step"], reasons=reasons, generators=told["generators"], **arrays)
        except (KeyError, TypeError) as error:
            raise ProtocolError("a message of dynamics holds no state") from error


@dataclass(frozen=True, slots=True, eq=False)
class Frames:
    """What was recorded on the way, oldest first.

    Attributes:
        steps: Shape (n_frames,).
        positions: Shape (n_frames, n_atoms, 3), Å, not wrapped.
        velocities: Shape (n_frames, n_atoms, 3).
        energy: Shape (n_frames, n_replicas), potential energies, eV.
    """

    steps: IntArray
    positions: FloatArray
    velocities: FloatArray
    energy: FloatArray

    def arrays(self) -> dict[str, AnyArray]:
        """Return the arrays by names of their own."""
        return {f"frames_{name}": getattr(self, name) for name in Frames.__dataclass_fields__}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> Self:
        """Return the frames that stand in a message.

        Raises:
            ProtocolError: There are none.
        """
        try:
            return cls(**{name: arrays[f"frames_{name}"] for name in cls.__dataclass_fields__})
        except KeyError as error:
            raise ProtocolError("a block of dynamics holds no frames") from error

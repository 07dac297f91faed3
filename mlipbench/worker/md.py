"""Molecular dynamics beside the model: from one checkpoint to the next, many replicas as one batch.

A replica that ends leaves its place in the batch to the structure that it began with, so that the batch keeps its
shape and nothing changes for the others.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, cast

import numpy as np

from mlipbench.dynamics import RUNNING, Dynamics, End, Frames, Guards, Halt, State
from mlipbench.models.interface import Property
from mlipbench.protocol import Message, MessageKind, ProtocolError, batch_from_arrays
from mlipbench.worker.integrators import stepper
from mlipbench.worker.s2ef import Timing, drop_non_finite, prediction_arrays, reply_header, run
from mlipbench.worker.surroundings import Surroundings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlipbench.structures import StructureBatch
    from mlipbench.typing import FloatArray
    from mlipbench.worker.session import Session

_ASKED: Final = frozenset({Property.ENERGY, Property.FORCES})
_SIGN_SECONDS: Final = 0.5
_FARTHEST: Final = 1e6  # Å


def advance(session: Session, message: Message) -> Message:
    """Answer an ``advance`` request: propagate replicas from the state that it holds to a step that it names.

    The harness is told twice a second that the worker is alive; a request that says ``careful`` has the state told
    after every step, so that the last one is known whatever becomes of the worker.

    Raises:
        ProtocolError: The request is incomplete.
        WorkerError: The adapter returned something other than the predictions asked for.
    """
    begun = time.perf_counter()
    order = _Order.of(message)
    cold = session.warm_up.is_cold(order.start)
    replicas = Replicas(session, order)
    frames = replicas.propagate()
    header = reply_header(replicas.timing, {}, {}, cold=cold)
    header |= {
        "state": replicas.state.header(),
        "seconds": time.perf_counter() - begun,
        "calls": replicas.calls,
        "builds": replicas.surroundings.builds,
    }
    return Message(MessageKind.ADVANCED, header, {**replicas.state.arrays(), **frames.arrays()})


@dataclass(frozen=True, slots=True, eq=False)
class _Order:
    """What a request asks for.

    Attributes:
        start: The replicas where they began.
        masses: Shape (n_atoms,), u.
        dynamics: How they are propagated.
        guards: What ends them.
        halts: Last steps, by place.
        state: Where they are.
        until: Step at which to stop.
        begins: Whether the model has yet to be called for the first time.
        careful: Whether every step is told.
    """

    start: StructureBatch
    masses: FloatArray
    dynamics: Dynamics
    guards: Guards
    halts: Mapping[int, Halt]
    state: State
    until: int
    begins: bool
    careful: bool

    @classmethod
    def of(cls, message: Message) -> _Order:
        header = message.header
        try:
            halts = {
                int(place): Halt(step, End(kind), reason) for place, (step, kind, reason) in header["halts"].items()
            }
            return cls(
                start=batch_from_arrays(message.arrays),
                masses=cast("FloatArray", message.arrays["masses"]),
                dynamics=Dynamics.of(header["parameters"]),
                guards=Guards.from_arrays(message.arrays),
                halts=halts,
                state=State.from_message(message),
                until=header["until"],
                begins=header["begins"],
                careful=header["careful"],
            )
        except (KeyError, ValueError, TypeError) as error:
            raise ProtocolError("a request for dynamics is incomplete") from error


@dataclass(slots=True, eq=False)
class _Recorder:
    """The frames of one request."""

    steps: list[int] = field(default_factory=list)
    positions: list[FloatArray] = field(default_factory=list)
    velocities: list[FloatArray] = field(default_factory=list)
    energy: list[FloatArray] = field(default_factory=list)

    def record(self, state: State) -> None:
        self.steps.append(state.step)
        for name in ("positions", "velocities", "energy"):
            getattr(self, name).append(getattr(state, name).copy())

    def frames(self, state: State) -> Frames:
        none = (0, *state.positions.shape)
        return Frames(
            steps=np.asarray(self.steps, dtype=np.int64),
            positions=np.asarray(self.positions).reshape(-1, *none[1:]),
            velocities=np.asarray(self.velocities).reshape(-1, *none[1:]),
            energy=np.asarray(self.energy).reshape(-1, len(state.energy)),
        )


class Replicas:
    """Replicas on their way through one request.

    Args:
        session: Holds the model.
        order: What is asked for.
    """

    def __init__(self, session: Session, order: _Order) -> None:
        """Set up integrator and neighbour lists."""
        self.state = order.state
        self.calls = 0
        self.timing = Timing(0.0, 0.0)
        self._some_ended = not bool(order.state.running.all())
        self._session = session
        self._order = order
        self._owner = order.start.structure_index
        self._stepper = stepper(order.dynamics, order.masses, self._owner, order.start.n_structures)
        self.surroundings = Surroundings(order.start, session.adapter.cutoff, order.dynamics.skin)
        self._told = time.monotonic()

    def propagate(self) -> Frames:
        """Go on to the step asked for, and return the frames on the way."""
        state, recorder = self.state, _Recorder()
        if self._order.begins:
            state.energy, state.forces = self._call()
            recorder.record(state)
            self._tell()
        while state.step < self._order.until and (not self._some_ended or state.running.any()):
            self._halt()
            self._look_at_temperatures(self._step())
            if state.step % self._order.dynamics.save_interval == 0:
                recorder.record(state)
                self._look_at_bonds()
            self._tell()
        state.generators = self._stepper.generators(state)
        return recorder.frames(state)

    def _halt(self) -> None:
        """End the replicas that the model would not survive."""
        for place, halt in self._order.halts.items():
            if self.state.ended[place] == RUNNING and halt.step <= self.state.step:
                self._end(place, halt.kind, halt.reason)

    def _step(self) -> FloatArray:
        """Bring all replicas one step further, and return their temperatures there."""
        state = self.state
        self._rest()
        self._stepper.move(state)
        every = state.positions.ravel()
        if not np.dot(every, every) < _FARTHEST**2:  # NaN is not less, either; where it holds, no coordinate is farther
            lost = ~(np.abs(state.positions) < _FARTHEST).all(axis=1)
            for place in np.unique(self._owner[lost]).tolist():
                self._end(place, End.PHYSICAL, "an atom left for infinity")
            self._rest()
        energy, forces = self._call()
        with np.errstate(invalid="ignore", over="ignore"):  # of replicas that have just ended
            self._stepper.arrive(state, forces)
            temperatures = self._stepper.temperature(state.velocities)
        state.energy = energy
        state.step += 1
        return temperatures

    def _end(self, place: int, kind: End, reason: str) -> None:
        """Let a replica end after the last step."""
        self._some_ended = True
        self.state.end(place, self.state.step, kind, reason)

    def _rest(self) -> None:
        """Put replicas that have ended where they began, at rest."""
        if not self._some_ended:
            return
        state, ended = self.state, ~self.state.running
        atoms = ended[self._owner]
        state.positions[atoms] = self._order.start.positions[atoms]
        state.velocities[atoms] = state.forces[atoms] = 0.0
        state.energy[ended] = state.friction[ended] = 0.0

    def _call(self) -> tuple[FloatArray, FloatArray]:
        """Return what the model says of the positions; replicas that it has no answer for end with the last step."""
        batch, neighbors = self.surroundings.at(self.state.positions)
        predictions, timing = run(self._session, batch, _ASKED, neighbors)
        self.calls += 1
        self.timing = Timing(self.timing.prepare + timing.prepare, self.timing.forward + timing.forward)
        arrays = prediction_arrays(predictions, _ASKED)
        _, reasons = drop_non_finite(batch, arrays)
        declined = predictions.not_applicable
        for place in sorted({*reasons, *declined}):
            if self.state.ended[place] == RUNNING:
                kind = End.REFUSED if place in declined else End.PHYSICAL
                self._end(place, kind, declined.get(place) or reasons[place])
        return np.array(arrays["energy"]), np.array(arrays["forces"])

    def _look_at_temperatures(self, temperatures: FloatArray) -> None:
        guards, state = self._order.guards, self.state
        if guards.coldest <= temperatures.min() and temperatures.max() <= guards.hottest:  # not where one is NaN
            return
        outside = state.running & ~((temperatures >= guards.coldest) & (temperatures <= guards.hottest))
        for place in np.flatnonzero(outside).tolist():
            kelvin = temperatures[place]
            reason = f"temperature of {kelvin:.3g} K" if np.isfinite(kelvin) else "velocities that are not finite"
            self._end(place, End.PHYSICAL, reason)

    def _look_at_bonds(self) -> None:
        guards, state = self._order.guards, self.state
        if not len(guards.bonds):
            return
        i, j = guards.bonds.T
        lengths = np.linalg.norm(state.positions[j] - state.positions[i], axis=1)
        broken = ~(np.abs(lengths - guards.lengths) <= guards.stretch) & state.running[self._owner[i]]
        for bond in np.flatnonzero(broken).tolist():
            place = int(self._owner[i[bond]])
            a, b = (guards.bonds[bond] - self._order.start.offsets[place]).tolist()
            reason = (
                f"the bond of atoms {a} and {b} is {lengths[bond]:.2f} Å long, {guards.lengths[bond]:.2f} Å on average"
            )
            self._end(place, End.PHYSICAL, reason)

    def _tell(self) -> None:
        """Tell the harness that the worker is alive, and where the replicas are if it asked for that."""
        now = time.monotonic()
        if self._order.careful:
            places = {"positions": self.state.positions, "velocities": self.state.velocities}
            self._session.send(Message(MessageKind.ALIVE, {"step": self.state.step}, places))
        elif now - self._told >= _SIGN_SECONDS:
            self._session.send(Message(MessageKind.ALIVE))
        else:
            return
        self._told = now

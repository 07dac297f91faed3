"""Relaxation of the structures of a batch, beside the model.

L-BFGS (Nocedal, Mathematics of Computation 35 (1980) 773) as ASE's `LBFGS` and fairchem's relaxations apply it: the
approximate Hessian starts from a constant curvature, there is no line search, and a step in which an atom would move
too far is shortened as a whole.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self

import numpy as np

from mlipbench.models.interface import Property
from mlipbench.protocol import Message, MessageKind, ProtocolError, batch_from_arrays
from mlipbench.worker.s2ef import Timing, drop_non_finite, prediction_arrays, reply_header, run

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlipbench.structures import StructureBatch
    from mlipbench.typing import AnyArray, BoolArray, FloatArray, IntArray
    from mlipbench.worker.session import Session

_ASKED: Final = frozenset({Property.ENERGY, Property.FORCES})


@dataclass(frozen=True, slots=True)
class Parameters:
    """How structures are relaxed; `mlipbench.suite.schema.RelaxationTask` explains them.

    Attributes:
        fmax: eV/Å.
        steps: Most steps of a structure.
        maxstep: Å.
        memory: Steps that the approximate Hessian is made of.
        damping: What every step is multiplied by.
        alpha: eV/Å².
    """

    fmax: float
    steps: int
    maxstep: float
    memory: int
    damping: float
    alpha: float


def relax(session: Session, message: Message) -> Message:
    """Answer a ``relax`` request: relax every structure of its batch until its forces are small or its steps run out.

    After every call of the model the harness is told that the worker is alive.

    Raises:
        ProtocolError: The request has no parameters, or others.
        WorkerError: The adapter returned something other than the predictions asked for.
    """
    batch = batch_from_arrays(message.arrays)
    try:
        parameters = Parameters(**message.header["parameters"])
    except (KeyError, TypeError) as error:
        raise ProtocolError("a request to relax does not name its parameters") from error
    cold = session.warm_up.is_cold(batch)
    relaxed = relax_batch(session, batch, parameters)
    header = reply_header(relaxed.timing, relaxed.reasons, relaxed.declined, cold=cold)
    return Message(MessageKind.PREDICTED, header, relaxed.arrays())


def relax_batch(session: Session, batch: StructureBatch, parameters: Parameters) -> Relaxed:
    """Relax structures side by side; one that is relaxed, or fails, is no part of the calls that follow.

    Fixed atoms stay where they are. As in ASE, the forces are looked at before the first step and after the last.

    Args:
        session: Holds the model.
        batch: The structures.
        parameters: How they are relaxed.

    Raises:
        WorkerError: The adapter returned something other than the predictions asked for.
    """
    relaxed = Relaxed.of(batch)
    optimizer = LBFGS(parameters)
    places = np.arange(batch.n_structures)
    moving = batch
    for step in range(parameters.steps + 1):
        call = _call(session, moving)
        session.send(Message(MessageKind.ALIVE))
        going_on = call.ok & (call.fmax >= parameters.fmax)
        if step == parameters.steps:
            going_on[:] = False
        relaxed.note(call, moving, places, ~going_on, step)
        if not going_on.any():
            break
        forces = call.forces
        if not going_on.all():
            atoms = going_on[moving.structure_index]
            optimizer.keep(going_on, atoms)
            moving, places, forces = moving.select(going_on), places[going_on], forces[atoms]
        moving = moving.moved(moving.positions + optimizer.step(moving, forces))
    relaxed.converged[:] = relaxed.ok & (relaxed.fmax < parameters.fmax)
    return relaxed


@dataclass(frozen=True, slots=True, eq=False)
class _Call:
    """What the model says of the structures that still move.

    Attributes:
        energy: Shape (n_structures,), eV.
        forces: Shape (n_atoms, 3), eV/Å, zero on fixed atoms.
        fmax: Shape (n_structures,), the largest of these forces, eV/Å.
        ok: Shape (n_structures,), where all of it is finite.
        reasons: Why structures failed, by their place among these.
        declined: Why the model does not cover structures, likewise.
        timing: Where the time went.
    """

    energy: FloatArray
    forces: FloatArray
    fmax: FloatArray
    ok: BoolArray
    reasons: Mapping[int, str]
    declined: Mapping[int, str]
    timing: Timing


def _call(session: Session, batch: StructureBatch) -> _Call:
    predictions, timing = run(session, batch, _ASKED)
    arrays = prediction_arrays(predictions, _ASKED)
    ok, reasons = drop_non_finite(batch, arrays)
    ok[list(predictions.not_applicable)] = False
    forces = arrays["forces"]
    if batch.fixed is not None:
        forces = np.where(batch.fixed[:, None], 0.0, forces)
    fmax = longest(forces, batch)
    return _Call(arrays["energy"], forces, fmax, ok, reasons, predictions.not_applicable, timing)


def longest(vectors: FloatArray, batch: StructureBatch) -> FloatArray:
    """Return the length of the longest vector of each structure's atoms, shape (n_structures,), NaN passed over."""
    found = np.zeros(batch.n_structures)
    np.fmax.at(found, batch.structure_index, np.linalg.norm(vectors, axis=1))
    return found


@dataclass(slots=True, eq=False)
class Relaxed:
    """Where the relaxations of a batch ended, in its order.

    Attributes:
        offsets: Shape (n_structures + 1,), atoms of each structure.
        energy: Shape (n_structures,), eV, of the last structure of each; NaN where it failed.
        positions: Shape (n_atoms, 3), Å, likewise.
        fmax: Shape (n_structures,), eV/Å, likewise.
        steps: Shape (n_structures,), steps taken.
        converged: Shape (n_structures,), whether the forces are small.
        ok: Shape (n_structures,), whether the relaxation came to its end, converged or not.
        reasons: Why structures failed, by their place.
        declined: Why the model does not cover structures, by their place.
        timing: Seconds of all calls together.
    """

    offsets: IntArray
    energy: FloatArray
    positions: FloatArray
    fmax: FloatArray
    steps: IntArray
    converged: BoolArray
    ok: BoolArray
    reasons: dict[int, str] = field(default_factory=dict)
    declined: dict[int, str] = field(default_factory=dict)
    timing: Timing = field(default_factory=lambda: Timing(0.0, 0.0))

    @classmethod
    def of(cls, batch: StructureBatch) -> Self:
        """Return what is known before the first call: nothing."""
        n, nothing = batch.n_structures, np.zeros(batch.n_structures, dtype=np.bool_)
        positions = np.full((batch.n_atoms, 3), np.nan)
        nan = np.full(n, np.nan)
        return cls(batch.offsets, nan, positions, nan.copy(), np.zeros(n, np.int64), nothing, nothing.copy())

    def note(self, call: _Call, moving: StructureBatch, places: IntArray, ended: BoolArray, step: int) -> None:
        """Keep the outcome of the structures that ended with a call.

        Args:
            call: What the model said of `moving`.
            moving: Structures that moved until now.
            places: Shape (n_moving,), their places in the batch.
            ended: Shape (n_moving,), which of them ended.
            step: Steps that they took.
        """
        self.timing = Timing(self.timing.prepare + call.timing.prepare, self.timing.forward + call.timing.forward)
        self.steps[places[ended]] = step
        for index in np.flatnonzero(ended).tolist():
            place = int(places[index])
            if index in call.declined:
                self.declined[place] = call.declined[index]
            elif not call.ok[index]:
                self.reasons[place] = f"{call.reasons[index]} after step {step}" if step else call.reasons[index]
            else:
                self.ok[place] = True
                self.energy[place], self.fmax[place] = call.energy[index], call.fmax[index]
                rows = slice(moving.offsets[index], moving.offsets[index + 1])
                self.positions[self.offsets[place] : self.offsets[place + 1]] = moving.positions[rows]

    def arrays(self) -> dict[str, AnyArray]:
        """Return the columns of the answer."""
        return {
            "energy": self.energy,
            "positions": self.positions,
            "steps": self.steps,
            "converged": self.converged,
            "fmax": self.fmax,
            "ok": self.ok,
        }


@dataclass(slots=True, eq=False)
class _Pair:
    """What one step says of the curvature.

    Attributes:
        moved: Shape (n_atoms, 3), displacements, Å.
        lost: Shape (n_atoms, 3), forces before minus forces after, eV/Å.
        rho: Shape (n_structures,), one over the product of both, 1/eV; 0 where that is 0 and tells nothing.
    """

    moved: FloatArray
    lost: FloatArray
    rho: FloatArray


class LBFGS:
    """The steps of structures that move side by side, each with a history, a step limit and a curvature of its own.

    Args:
        parameters: Their limits.
    """

    def __init__(self, parameters: Parameters) -> None:
        """Start without a history."""
        self._parameters = parameters
        self._pairs: deque[_Pair] = deque(maxlen=parameters.memory)
        self._last: tuple[FloatArray, FloatArray] | None = None

    def keep(self, structures: BoolArray, atoms: BoolArray) -> None:
        """Forget structures.

        Args:
            structures: Shape (n_structures,), those that are kept.
            atoms: Shape (n_atoms,), their atoms.
        """
        for pair in self._pairs:
            pair.moved, pair.lost, pair.rho = pair.moved[atoms], pair.lost[atoms], pair.rho[structures]
        if self._last is not None:
            self._last = self._last[0][atoms], self._last[1][atoms]

    def step(self, batch: StructureBatch, forces: FloatArray) -> FloatArray:
        """Return the next step from the structures as they are, and remember them.

        Args:
            batch: The structures; the same atoms in every call, but for those that `keep` left out.
            forces: Shape (n_atoms, 3), eV/Å, zero on fixed atoms.

        Returns:
            Shape (n_atoms, 3), Å.
        """
        owner, n = batch.structure_index, batch.n_structures

        def products(a: FloatArray, b: FloatArray) -> FloatArray:
            return np.bincount(owner, np.einsum("ij,ij->i", a, b), minlength=n).astype(np.float64, copy=False)

        if self._last is not None:
            moved, lost = batch.positions - self._last[0], self._last[1] - forces
            curvature = products(moved, lost)
            rho = np.divide(1.0, curvature, out=np.zeros(n), where=curvature != 0)
            self._pairs.append(_Pair(moved, lost, rho))
        self._last = batch.positions, forces
        direction = forces
        weights = []
        for pair in reversed(self._pairs):
            weights.append(pair.rho * products(pair.moved, direction))
            direction = direction - weights[-1][owner, None] * pair.lost
        direction = direction / self._parameters.alpha
        for pair, weight in zip(self._pairs, reversed(weights), strict=True):
            back = pair.rho * products(pair.lost, direction)
            direction = direction + (weight - back)[owner, None] * pair.moved
        length = longest(direction, batch)
        too_long = length >= self._parameters.maxstep
        shortened = np.divide(self._parameters.maxstep, length, out=np.ones(n), where=too_long)
        return direction * (shortened[owner, None] * self._parameters.damping)

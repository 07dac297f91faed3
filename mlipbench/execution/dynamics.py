"""Simulating a batch of replicas whatever the model does: from checkpoint to checkpoint, and who is to blame.

- The worker dies, hangs or passes its memory limit, or the adapter raises: the same stretch is simulated once more, and
  every step told, so that a kill from outside leaves no trace and a second end is known to the step.
- A second end at the same place is somebody's fault. A replica whose last state is physically impossible ended there
  for physical reasons. Without one, halves of the replicas are tried until one is to blame; its end is the model's.
- The replica to blame is halted one step before, and the others go on as if nothing had happened.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mlipbench.dynamics import RUNNING, Dynamics, End, Frames, Guards, Halt, State, thermal_velocities
from mlipbench.execution.failures import WorkerLostError, WorkerMemory, WorkerProtocol, WorkerTimeout, as_error
from mlipbench.execution.requests import advance_message
from mlipbench.protocol import MessageKind
from mlipbench.store.trajectories import Block
from mlipbench.structures.plausible import Origin, implausible

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlipbench.errors import MlipbenchError
    from mlipbench.execution.evaluate import Predictor
    from mlipbench.protocol import Message
    from mlipbench.structures import StructureBatch
    from mlipbench.typing import BoolArray, FloatArray

COLDEST: Final = 0.1
HOTTEST: Final = 100_000.0
"""K, between which MDSim keeps temperatures (``mdsim/md/integrator.py``)."""


@dataclass(frozen=True, slots=True, eq=False)
class Replicas:
    """What is simulated.

    Attributes:
        start: The replicas where they begin.
        masses: Shape (n_atoms,), u.
        dynamics: How they are propagated.
        guards: What ends them.
        cutoff: Å, the model's, within which edges are counted; None takes a common one.
    """

    start: StructureBatch
    masses: FloatArray
    dynamics: Dynamics
    guards: Guards
    cutoff: float | None


@dataclass(frozen=True, slots=True)
class _Trial:
    """One attempt at a stretch.

    Attributes:
        until: Step to go to.
        halts: Last steps of replicas.
        careful: Whether every step is told.
    """

    until: int
    halts: dict[int, Halt] = field(default_factory=dict)
    careful: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class _Failure:
    """Why an attempt came to nothing.

    Attributes:
        kind: How a replica ends for it.
        reason: In words.
        step: The last step that was told.
        sign: The sign of life that told it; None where none came.
    """

    kind: End
    reason: str
    step: int
    sign: Message | None


class Simulation:
    """One batch of replicas on its way.

    Args:
        predictor: Keeps a worker with the model loaded.
        replicas: What is simulated.
        state: Where the replicas are.
        begins: Whether the model has yet to be called for the first time.
    """

    def __init__(self, predictor: Predictor, replicas: Replicas, state: State, *, begins: bool) -> None:
        """Keep the arguments."""
        self.state = state
        self._predictor = predictor
        self._replicas = replicas
        self._begins = begins
        self._origin: Origin | None = None

    def run(self, commit: Callable[[Block], None]) -> State:
        """Go on until every replica has ended, and return the last state.

        Args:
            commit: Called with each block.

        Raises:
            MlipbenchError: The first worker cannot be started or cannot load the model.
        """
        dynamics = self._replicas.dynamics
        while self.state.running.any() and self.state.step < dynamics.steps:
            done = self.state.step // dynamics.checkpoint_interval
            until = min((done + 1) * dynamics.checkpoint_interval, dynamics.steps)
            block = self._stretch(until)
            if block.state.step == dynamics.steps:
                for place in np.flatnonzero(block.state.running).tolist():
                    block.state.end(place, dynamics.steps, End.COMPLETED, "")
            commit(block)
            self.state, self._begins = block.state, False
        return self.state

    def _stretch(self, until: int) -> Block:
        """Simulate to the next checkpoint."""
        trial = _Trial(until)
        while True:
            found = self._attempt(trial)
            if isinstance(found, Block):
                return found
            if not trial.careful:
                trial = replace(trial, careful=True)
                continue
            blamed = self._blame(trial, found)
            if blamed is None:
                return self._give_up(found)
            trial = replace(trial, halts={**trial.halts, **blamed})

    def _attempt(self, trial: _Trial) -> Block | _Failure:
        client = self._predictor.client()
        told = {"until": trial.until, "begins": self._begins, "careful": trial.careful}
        message = advance_message(self._predictor.next_request(), self._replicas, self.state, trial.halts, told)
        try:
            client.send(message)
            reply = client.receive()
            sign = client.last_sign
            if reply.kind == MessageKind.ADVANCED:
                return _block(reply)
        except WorkerLostError as error:
            sign = client.last_sign
            if not self._predictor.replace():
                return _Failure(_kind(error), f"too many workers were lost: {error.problem}", self._step(sign), None)
            return _Failure(_kind(error), error.problem, self._step(sign), sign)
        if reply.kind != MessageKind.FAILED:
            raise WorkerProtocol(f"worker answered a request for dynamics with {reply.kind!r}")
        kind = End.OUT_OF_MEMORY if reply.header.get("memory") else End.CRASH
        return _Failure(kind, as_error(reply).problem, self._step(sign), sign)

    def _step(self, sign: Message | None) -> int:
        return self.state.step if sign is None else int(sign.header.get("step", self.state.step))

    def _blame(self, trial: _Trial, failure: _Failure) -> dict[int, Halt] | None:
        """Return which replicas are to stop before the step that failed, and why; None where nothing can be done."""
        going_on = self._going_on(trial, failure.step)
        if not going_on.any() or self._predictor.restarts >= self._predictor.policy.max_restarts:
            return None
        physical = {place: why for place, why in self._impossible(failure).items() if going_on[place]}
        if physical:
            return {place: Halt(failure.step, End.PHYSICAL, why) for place, why in physical.items()}
        guilty = self._narrowed(trial, failure, np.flatnonzero(going_on).tolist())
        return {guilty: Halt(failure.step, failure.kind, failure.reason)}

    def _going_on(self, trial: _Trial, step: int) -> BoolArray:
        """Return which replicas took part in the step after `step`, as far as is known."""
        going_on = self.state.running.copy()
        for place, halt in trial.halts.items():
            going_on[place] &= halt.step > step
        return going_on

    def _impossible(self, failure: _Failure) -> dict[int, str]:
        """Return which replicas were physically impossible in the last state that was told, and why."""
        start = self._replicas.start
        if self._origin is None:
            self._origin = Origin.of(start, self._replicas.cutoff)
        told = self.state.positions if failure.sign is None else failure.sign.arrays.get("positions")
        positions = self.state.positions if told is None else np.asarray(told)
        return implausible(start.moved(positions), self._origin)

    def _narrowed(self, trial: _Trial, failure: _Failure, suspects: list[int]) -> int:
        """Return the one replica with which the next step fails, by trying halves of those in question."""
        everyone = list(suspects)
        while len(suspects) > 1:
            half = suspects[: len(suspects) // 2]
            others = {place: Halt(failure.step, End.CRASH, "left out") for place in everyone if place not in half}
            probe = replace(trial, until=failure.step + 1, halts={**trial.halts, **others}, careful=False)
            failed = isinstance(self._attempt(probe), _Failure)
            suspects = half if failed else [place for place in suspects if place not in half]
        return suspects[0]

    def _give_up(self, failure: _Failure) -> Block:
        """End every replica where it is."""
        state = self.state
        for place in np.flatnonzero(state.running).tolist():
            state.end(place, state.step, failure.kind, failure.reason)
        n_atoms = len(state.positions)
        empty = np.zeros((0, n_atoms, 3))
        frames = Frames(np.zeros(0, np.int64), empty, empty, np.zeros((0, len(state.energy))))
        return Block(frames, state, {})


def first_state(replicas: Replicas, seeds: tuple[int, ...]) -> State:
    """Return replicas at their start, with velocities of Maxwell and Boltzmann.

    As in MDSim neither the momentum of the whole nor its angular momentum is taken away. What a replica draws
    depends on its seed alone.

    Args:
        replicas: What is simulated.
        seeds: One for each replica.
    """
    start = replicas.start
    velocities, generators = [], []
    for seed, masses in zip(seeds, np.split(replicas.masses, start.offsets[1:-1]), strict=True):
        generator = np.random.Generator(np.random.PCG64(seed))
        velocities.append(thermal_velocities(masses, replicas.dynamics.temperature, generator))
        generators.append(dict(generator.bit_generator.state))
    n = start.n_structures
    return State(
        step=0,
        positions=np.array(start.positions),
        velocities=np.concatenate(velocities),
        forces=np.full((start.n_atoms, 3), np.nan),
        energy=np.full(n, np.nan),
        friction=np.zeros(n),
        ended=np.full(n, RUNNING, dtype=np.int64),
        kinds=np.zeros(n, dtype=np.int64),
        generators=generators,
    )


def _block(reply: Message) -> Block:
    header = reply.header
    names = ("prepare_seconds", "forward_seconds", "seconds", "calls", "builds", "cold", "maxrss")
    timing: dict[str, Any] = {name: header[name] for name in names}
    try:
        return Block(Frames.from_arrays(reply.arrays), State.from_message(reply), timing)
    except (KeyError, TypeError) as error:
        raise WorkerProtocol("worker answered a request for dynamics with an incomplete block") from error


def _kind(error: MlipbenchError) -> End:
    if isinstance(error, WorkerTimeout):
        return End.TIMEOUT
    return End.OUT_OF_MEMORY if isinstance(error, WorkerMemory) else End.CRASH

"""Measuring models side by side: all take turns in rounds, on the same structures.

- Machines drift: what else runs on them, and how fast their clocks go, changes within minutes. Times of models measured
  one after the other differ by that much; in rounds it falls on all of them alike.
- The order within a round is drawn anew each time. A turn begins with a call that does not count, which brings the
  model's data back into the caches.
- Where the system lets a process choose, all models of a round stay on the same processors, as many as they have
  threads, and the rounds go through all processors: two workers that sit on processors of their own for long would
  differ by whatever else runs there.
- Every coordinate is moved a little before each call, so that no call can be answered from memory.
- A model that would pass its time on a split leaves the rounds that are left to the others.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from mlipbench.cost import Call, CostFacts, Stage
from mlipbench.errors import MlipbenchError, StorageError
from mlipbench.execution.failures import WorkerLostError, as_error
from mlipbench.execution.requests import count_message, measure_message
from mlipbench.execution.turns import Contender, TooSlow, Turn, TurnFailed, calls_of, times_of
from mlipbench.execution.watch import machine_limit
from mlipbench.machine import processors_of_rounds
from mlipbench.models.interface import Property
from mlipbench.protocol import MessageKind

if TYPE_CHECKING:
    from mlipbench.progress import Display
    from mlipbench.structures import StructureBatch
    from mlipbench.suite.tasks import EfficiencyTask
    from mlipbench.typing import IntArray

BOTH: Final = frozenset({Property.ENERGY, Property.FORCES})
ENERGY: Final = frozenset({Property.ENERGY})
WARM_UP_CALLS: Final = 10
STABLE: Final = 1.1
"""Warm-up ends once the slowest of three calls took at most this much longer than the fastest."""
LATENCY_SHARE: Final = 0.6
"""Of a model's time, what may be over when the last round of single structures ends; the rest is for batches."""
WARM_UP_SHARE: Final = 0.2
"""Of a model's time, after which no further call is made to warm it up."""
SLOWEST_SHARE: Final = 1 / 3
"""Of a model's time, what a call may take; a model whose calls take longer is not measured on the split."""
COUNTED: Final = (4, 2, 1)
"""Structures that operations are counted on: as many as can be in `COUNTING_SECONDS`."""
COUNTING_SECONDS: Final = 60.0
"""What counting may take; it is the same every time, and does not go on a model's own time."""
COUNTING_CALLS: Final = 4
"""Calls of one structure that counting makes besides five with each that it counts."""
SIZE_ROUNDS: Final = 4
GAIN: Final = 1.05
FEWEST_MANY: Final = 2
"""Structures of the smallest batch that is none of a single one."""
PATIENCE: Final = 2
"""Larger sizes that bring less than `GAIN` before no larger one is tried."""


class Contest:
    """The measurement of all models on one split.

    Args:
        contenders: The models.
        structures: The structures that are measured.
        task: The task.
        reference: The model whose times stand beside those of the others, one of `contenders`, or None.
        threads: Threads of each worker.
        display: Shows progress.
    """

    def __init__(
        self,
        contenders: list[Contender],
        structures: StructureBatch,
        task: EfficiencyTask,
        reference: Contender | None,
        threads: int,
        display: Display,
    ) -> None:
        """Keep the arguments."""
        self._processors = processors_of_rounds(threads)
        self._all = contenders
        self._structures = structures
        self._task = task
        self._reference = reference
        self._display = display

    def run(self) -> None:
        """Measure; what becomes of it stands in the contenders.

        Raises:
            StorageError: Nothing can be written.
        """
        self._rounds(whole=True)
        self._throughput()

    def compare(self) -> None:
        """Measure energy and forces of single structures, and nothing else.

        Raises:
            StorageError: Nothing can be written.
        """
        self._rounds(whole=False)

    def _rounds(self, *, whole: bool) -> None:
        """Warm all models up and let them take turns; `whole` has energies alone timed and operations counted, too."""
        for contender in self._all:
            self._warm_up(contender, whole=whole)
        self._latency(whole=whole)

    def _warm_up(self, contender: Contender, *, whole: bool) -> None:
        """Call a model until its calls take equally long; the first call of all is kept apart."""
        if contender.error is not None:
            return
        seconds: list[float] = []
        try:
            contender.predictor.client()
            while len(seconds) < WARM_UP_CALLS and contender.spent < WARM_UP_SHARE * self._task.seconds:
                stage = Stage.WARM_UP if seconds else Stage.COLD
                turn = Turn(stage, len(seconds), self._drawn(len(seconds), 1), first=stage is Stage.COLD)
                calls = self._measure(contender, turn, BOTH)
                contender.calls += calls
                seconds += [call.seconds for call in calls]
                last = seconds[-3:]
                if len(seconds) > len(last) and max(last) <= STABLE * min(last):
                    break
            if whole:
                self._refuse_slow(seconds[-1])
                self._measure(contender, Turn(Stage.WARM_UP, len(seconds), self._drawn(0, 1), first=True), ENERGY)
                self._count(contender, seconds[-1])
        except StorageError:  # no model's fault
            raise
        except MlipbenchError as error:  # it cannot be loaded, or fails at once
            contender.error = error
            self._display.note(f"{contender.name}: {error.problem}")

    def _refuse_slow(self, seconds: float) -> None:
        """End the measurement of a model of which a call takes too long.

        Raises:
            TooSlow: It does.
        """
        if seconds > SLOWEST_SHARE * self._task.seconds:
            raise TooSlow(
                f"a call takes {seconds:.3g} s, more than a third of the {self._task.seconds:g} s that a model has here"
            )

    def _count(self, contender: Contender, seconds: float) -> None:
        """Have the operations of a call counted, on structures evenly spaced among those that are measured.

        Args:
            contender: The model.
            seconds: What a call with one structure takes.
        """
        if not contender.counted:
            return
        size = self._structures.n_structures
        possible = [np.unique(np.linspace(0, size - 1, n).round().astype(np.int64)) for n in COUNTED]
        fitting = [places for places in possible if (COUNTING_CALLS + 5 * len(places)) * seconds <= COUNTING_SECONDS]
        if not fitting:
            calls = COUNTING_CALLS + 5
            contender.facts = f"not counted: that takes {calls} calls of {seconds:.3g} s, over {COUNTING_SECONDS:g} s"
            return
        batch = self._structures.select(fitting[0])
        try:
            client = contender.predictor.client()
            reply = client.request(count_message(contender.predictor.next_request(), batch, BOTH))
            if reply.kind == MessageKind.FAILED:
                contender.facts = as_error(reply).problem
            else:
                contender.facts = CostFacts.from_header(reply.header)
        except (WorkerLostError, ValueError) as error:
            contender.predictor.close()
            contender.facts = str(error)

    def _latency(self, *, whole: bool) -> None:
        """Let the models take turns with single structures."""
        for number in range(self._task.rounds):
            present = [one for one in self._order(number) if self._has_time(one)]
            if not any(one.counted for one in present):
                return
            self._display.advance(1)
            of_round = {one: self._single(one, number, turn, whole=whole) for turn, one in enumerate(present)}
            for contender, calls in of_round.items():
                reference, baseline = (times_of(of_round, other) for other in (self._reference, contender.baseline))
                contender.calls += [
                    replace(call, reference_seconds=reference.get(key), baseline_seconds=baseline.get(key))
                    for call in calls
                    for key in [(call.stage, call.call)]
                ]

    def _single(self, contender: Contender, number: int, place: int, *, whole: bool) -> list[Call]:
        """Take one model's turn with single structures: energy and forces, then, where `whole`, the energy alone."""
        before = contender.spent
        both = Turn(Stage.LATENCY, number, self._drawn(number, self._task.calls + 1), untimed=1, turn=place)
        alone = Turn(Stage.ENERGY, number, both.places[:1], turn=place)
        try:
            calls = self._measure(contender, both, BOTH)
            calls += self._measure(contender, alone, ENERGY) if whole else []
        except TurnFailed as error:
            contender.error = error
            self._display.note(f"{contender.name}: round {number + 1}: {error.problem}")
            return []
        contender.last_turn = contender.spent - before
        return calls

    def _has_time(self, contender: Contender) -> bool:
        """Return whether a model takes part in one more round; each has one at least."""
        if contender.error is not None:
            return False
        begun = any(call.stage is Stage.LATENCY for call in contender.calls)
        return not begun or contender.spent + contender.last_turn <= LATENCY_SHARE * self._task.seconds

    def _throughput(self) -> None:
        """Let the models take turns with batches, of sizes that double."""
        rates: dict[Contender, list[float]] = {one: [] for one in self._all if one.counted and one.error is None}
        size = 1
        while size <= self._task.batch:
            going_on = [one for one in rates if self._goes_on(one, rates[one], size)]
            if not going_on:
                return
            for number in range(SIZE_ROUNDS):
                for place, contender in enumerate(one for one in self._order(number) if one in going_on):
                    self._many(contender, size, number, place)
            for contender in going_on:
                rates[contender].append(size / contender.median(Stage.THROUGHPUT, size))
            size *= 2

    def _goes_on(self, contender: Contender, rates: list[float], size: int) -> bool:
        """Return whether a model is tried with batches of the next size."""
        if contender.limit is not None:
            return False
        if not rates:
            seconds = contender.median(Stage.LATENCY)
            if contender.spent + 2 * SIZE_ROUNDS * seconds > self._task.seconds:
                contender.limit = f"a call takes {seconds:.3g} s, which leaves no time for batches"
            return contender.limit is None
        expected = 2 * SIZE_ROUNDS * size / rates[-1]
        best = max(range(len(rates)), key=lambda place: (rates[place] > GAIN * max(rates[:place], default=0.0), place))
        if len(rates) - 1 - best >= PATIENCE:
            return False
        return contender.spent + expected <= self._task.seconds

    def _many(self, contender: Contender, size: int, number: int, place: int) -> None:
        """Take one model's turn with a batch."""
        if contender.limit is not None:
            return
        places = np.resize(np.arange(self._structures.n_structures), 2 * size)
        first = size == FEWEST_MANY and number == 0
        turn = Turn(Stage.THROUGHPUT, number, places, size=size, untimed=1, turn=place, first=first)
        try:
            contender.calls += self._measure(contender, turn, BOTH)
        except TurnFailed as error:
            contender.limit = f"{size} structures: {error.problem}"
            self._display.note(f"{contender.name}: {contender.limit}")

    def _order(self, number: int) -> list[Contender]:
        """Return the models in the order of one round."""
        draws = np.random.PCG64([self._task.seed, number]).random_raw(len(self._all))
        return [self._all[place] for place in np.argsort(draws, kind="stable").tolist()]

    def _drawn(self, number: int, calls: int) -> IntArray:
        """Return the structures of the calls of one round, the same for every model."""
        draws = np.random.PCG64([self._task.seed, number, calls]).random_raw(calls)
        return (draws % self._structures.n_structures).astype(np.int64)

    def _measure(self, contender: Contender, turn: Turn, properties: frozenset[Property]) -> list[Call]:
        """Send one turn to a worker and return the calls that count.

        Raises:
            TurnFailed: The model gave no answer, or none in time.
        """
        batch = self._structures.select(turn.places)
        generator = np.random.Generator(np.random.PCG64([self._task.seed, *turn.key]))
        moved = batch.positions + self._task.jitter * generator.standard_normal(batch.positions.shape)
        sizes = [turn.size] * (len(turn.places) // turn.size)
        begun = time.monotonic()
        try:
            client = contender.predictor.client()
            client.limit_memory(self._memory_left(contender))
            message = measure_message(
                contender.predictor.next_request(), batch.moved(moved), properties, turn.header(sizes, self._processors)
            )
            timeout = None if turn.first else self._task.seconds * len(sizes)
            reply = client.request(message, timeout)
        except WorkerLostError as error:
            contender.predictor.close()
            raise TurnFailed(error.problem) from error
        finally:
            if not turn.first:  # imports and compilation happen once, and say nothing of a call
                contender.spent += time.monotonic() - begun
        if reply.kind == MessageKind.FAILED:
            raise TurnFailed(as_error(reply).problem)
        return calls_of(reply, turn, batch)

    def _memory_left(self, contender: Contender) -> int:
        """Return the bytes that a worker may hold beside those of the others."""
        others = sum(one.predictor.resident() for one in self._all if one is not contender)
        return max(machine_limit() - others, 0)

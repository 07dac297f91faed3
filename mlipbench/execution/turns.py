"""Turns of models that are measured side by side: what is asked for, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from mlipbench.cost import TIMED, Call, CostFacts, Stage
from mlipbench.errors import MlipbenchError, WorkerError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlipbench.execution.evaluate import Predictor
    from mlipbench.protocol import Message
    from mlipbench.structures import StructureBatch
    from mlipbench.typing import IntArray


class TurnFailed(WorkerError):  # noqa: N818 - says what happened
    """A model gave no answer in its turn."""


class TooSlow(WorkerError):  # noqa: N818 - says what happened
    """A call takes too long for a model to be measured in the time that it has on a split; that is no failure."""


@dataclass(slots=True, eq=False)
class Contender:
    """A model that takes part.

    Attributes:
        name: What messages call it.
        predictor: Keeps a worker with the model loaded.
        counted: Whether its calls are kept; a reference that was measured before takes part all the same.
        baseline: The variant of the same model whose times stand beside its own, perhaps itself, or None.
        calls: What was measured.
        spent: Seconds that its turns took.
        last_turn: Seconds that its last turn with single structures took.
        error: Why it has no latency, or None; a model that has one from the beginning takes no part.
        facts: What was counted, or why it could not be.
        limit: Why no larger batch was measured, where the model or the machine is to blame.
    """

    name: str
    predictor: Predictor
    counted: bool = True
    baseline: Contender | None = None
    calls: list[Call] = field(default_factory=list)
    spent: float = 0.0
    last_turn: float = 0.0
    error: MlipbenchError | None = None
    facts: CostFacts | str = "nothing was counted"
    limit: str | None = None

    def median(self, stage: Stage, size: int = 1) -> float:
        """Return the median seconds of a call of a stage; NaN where there is none."""
        taken = [call.seconds for call in self.calls if call.stage is stage and call.n_structures == size]
        return float(np.median(taken)) if taken else float("nan")


@dataclass(frozen=True, slots=True, eq=False)
class Turn:
    """What a model is asked to do in its turn.

    Attributes:
        stage: What for.
        round: Number of the round.
        places: Structures of each call, those that do not count first.
        size: Structures of a call.
        untimed: Calls that do not count.
        turn: Which model's turn it is in the round.
        first: Whether it is the first of its kind, so that the model may be compiled for it: compilers set apart one
            structure and many, and calls with forces and without.
    """

    stage: Stage
    round: int
    places: IntArray
    size: int = 1
    untimed: int = 0
    turn: int = 0
    first: bool = False

    @property
    def key(self) -> tuple[int, ...]:
        """What the movements of the coordinates depend on, the same for every model."""
        return list(Stage).index(self.stage), self.round, self.size

    def header(self, sizes: list[int], processors: Sequence[Sequence[int]]) -> dict[str, Any]:
        """Return what a worker is told besides structures and properties."""
        return {
            "sizes": sizes,
            "untimed": self.untimed,
            "release": self.stage is Stage.THROUGHPUT,
            "processors": processors[self.round % len(processors)] if processors else None,
        }


def times_of(of_round: Mapping[Contender, list[Call]], contender: Contender | None) -> dict[tuple[Stage, int], float]:
    """Return what the calls of one model took in a round; nothing where it took no part."""
    calls = of_round.get(contender, []) if contender is not None else []
    return {(call.stage, call.call): call.seconds for call in calls}


def calls_of(reply: Message, turn: Turn, batch: StructureBatch) -> list[Call]:
    """Return what a reply says of its calls.

    Raises:
        TurnFailed: It does not say it.
    """
    try:
        columns = [reply.arrays[name] for name in TIMED]
        peaks = (reply.header["peak_allocator"], int(reply.header["peak_memory"]))
    except (KeyError, TypeError, ValueError):
        raise TurnFailed("the worker answered with something else than measurements") from None
    firsts = range(turn.untimed * turn.size, batch.n_structures, turn.size)
    return [
        Call(
            turn.stage,
            turn.round,
            turn.turn,
            call,
            int(turn.places[first]),
            turn.size,
            int(batch.offsets[first + turn.size] - batch.offsets[first]),
            float(prepare),
            float(forward),
            float(cpu),
            int(faults),
            float(compiling),
            None,
            None,
            *peaks,
        )
        for call, (first, prepare, forward, cpu, faults, compiling) in enumerate(zip(firsts, *columns, strict=True))
    ]

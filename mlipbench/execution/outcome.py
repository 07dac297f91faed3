"""What became of a batch."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from mlipbench.errors import WorkerError
from mlipbench.execution.failures import WorkerProtocol
from mlipbench.protocol import MessageKind

if TYPE_CHECKING:
    from mlipbench.protocol import Message
    from mlipbench.structures import StructureBatch
    from mlipbench.tasks import TaskRequest
    from mlipbench.typing import AnyArray, BoolArray

NOT_ATTEMPTED: Final = "not attempted"


@dataclass(frozen=True, slots=True)
class Timing:
    """Where the time of one request went: one call of the model, or all calls of a relaxation together.

    Attributes:
        n_structures: Structures in the request.
        n_atoms: Atoms in the request.
        prepare_seconds: Building graphs, in the worker.
        forward_seconds: The model, in the worker, around synchronised work.
        cold: Whether the (first) call was the first at its size; such calls are not for timing.
        maxrss: Largest resident memory of the worker so far, bytes.
    """

    n_structures: int
    n_atoms: int
    prepare_seconds: float
    forward_seconds: float
    cold: bool
    maxrss: int


@dataclass(frozen=True, slots=True, eq=False)
class BatchOutcome:
    """Predictions and failures of one batch, in its order.

    Attributes:
        columns: The task's outputs by name, as far as they were asked for; blank where a structure failed.
        ok: Shape (n_structures,), whether the structure was predicted.
        reasons: Why, by index of each structure that failed; starts with `NOT_ATTEMPTED` where nobody tried.
        not_applicable: Why, by index of each structure that the model does not cover; these are no failures.
        timings: One entry per request that came back.
    """

    columns: dict[str, AnyArray]
    ok: BoolArray
    reasons: dict[int, str] = field(default_factory=dict)
    not_applicable: dict[int, str] = field(default_factory=dict)
    timings: tuple[Timing, ...] = ()


class OutcomeBuilder:
    """Puts the outcomes of the parts of a batch together.

    A batch that comes back in one piece keeps the arrays of the reply; only parts are copied.
    """

    def __init__(self, batch: StructureBatch, request: TaskRequest) -> None:
        """Start with nothing known of any structure."""
        self._batch = batch
        self._request = request
        self._parts: list[tuple[int, BatchOutcome]] = []
        self.missing = batch.n_structures

    def add(self, start: int, part: BatchOutcome) -> None:
        """Take the outcome of the structures from `start` on."""
        self._parts.append((start, part))
        self.missing -= len(part.ok)

    def fail(self, index: int, reason: str) -> None:
        """Take note that one structure failed."""
        self.add(index, empty_outcome(self._batch.slice(index, index + 1), self._request, reason))

    def build(self, reason: str = NOT_ATTEMPTED) -> BatchOutcome:
        """Return the outcome of the batch; structures nothing is known of fail for `reason`."""
        if len(self._parts) == 1 and not self.missing:
            return self._parts[0][1]
        whole = empty_outcome(self._batch, self._request, reason)
        timings: list[Timing] = []
        for start, part in sorted(self._parts, key=lambda entry: entry[0]):
            stop = start + len(part.ok)
            atoms = slice(self._batch.offsets[start], self._batch.offsets[stop])
            whole.ok[start:stop] = part.ok
            for output in self._request.outputs:
                whole.columns[output.name][atoms if output.per_atom else slice(start, stop)] = part.columns[output.name]
            for index in range(start, stop):
                whole.reasons.pop(index)
            whole.reasons.update({start + index: why for index, why in part.reasons.items()})
            whole.not_applicable.update({start + index: why for index, why in part.not_applicable.items()})
            timings += part.timings
        reasons = dict(sorted(whole.reasons.items()))
        return replace(whole, reasons=reasons, timings=tuple(timings))


def empty_outcome(batch: StructureBatch, request: TaskRequest, reason: str) -> BatchOutcome:
    """Return an outcome in which every structure failed for `reason`."""
    n_structures = batch.n_structures
    return BatchOutcome(
        columns={output.name: output.blank(n_structures, batch.n_atoms) for output in request.outputs},
        ok=np.zeros(n_structures, dtype=np.bool_),
        reasons=dict.fromkeys(range(n_structures), reason),
    )


def outcome_of(reply: Message, batch: StructureBatch, request: TaskRequest) -> BatchOutcome:
    """Return the outcome that a ``predicted`` reply to `batch` holds.

    Raises:
        WorkerProtocol: The reply does not fit the batch.
    """
    header, arrays = reply.header, reply.arrays
    shapes = {output.name: output.shape(batch.n_structures, batch.n_atoms) for output in request.outputs}
    shapes["ok"] = (batch.n_structures,)
    if reply.kind != MessageKind.PREDICTED or {name: array.shape for name, array in arrays.items()} != shapes:
        raise WorkerProtocol(f"worker answered a prediction with an unfitting {reply.kind!r}")
    timing = Timing(
        n_structures=batch.n_structures,
        n_atoms=batch.n_atoms,
        prepare_seconds=header["prepare_seconds"],
        forward_seconds=header["forward_seconds"],
        cold=header["cold"],
        maxrss=header["maxrss"],
    )
    reasons = {int(index): reason for index, reason in header["reasons"].items()}
    declined = {int(index): reason for index, reason in header["not_applicable"].items()}
    columns = {output.name: arrays[output.name] for output in request.outputs}
    return BatchOutcome(columns, arrays["ok"], reasons, declined, (timing,))


class TaskEnded(WorkerError):  # noqa: N818 - says what happened
    """A shard was given up before its end.

    Attributes:
        not_attempted: Structures of the shard that were never predicted.
    """

    def __init__(self, reason: str, not_attempted: int, *, detail: str = "") -> None:
        """Join the reason and the count into one line."""
        super().__init__(f"{reason}; {not_attempted} structures of the shard were not attempted", detail=detail)
        self.not_attempted = not_attempted

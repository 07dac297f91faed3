"""Predicting a shard whatever the model does: restart, retry, halve, and give up only on what is to blame.

- The worker dies, hangs or passes its memory limit: a new one is started and gets the same batch once more,
  unchanged, so that a kill from outside leaves no trace in the results. If that fails too, the batch is halved.
- The adapter raises, returns nonsense or runs out of memory: the batch is halved at once.
- A single structure that still fails is to blame: it becomes a failed row, and the rest is predicted.
- Twenty structures that fail in a row, or too many new workers, end the shard.
"""

from __future__ import annotations

import bisect
import contextlib
from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, NoReturn, Self

import numpy as np

from mlipbench.execution.failures import WorkerLostError, WorkerProtocol, as_error
from mlipbench.execution.outcome import NOT_ATTEMPTED, BatchOutcome, OutcomeBuilder, TaskEnded, outcome_of
from mlipbench.execution.requests import task_message, verify_message
from mlipbench.protocol import MessageKind

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator
    from types import TracebackType

    from mlipbench.errors import MlipbenchError, WorkerError
    from mlipbench.execution.client import WorkerClient
    from mlipbench.structures import StructureBatch
    from mlipbench.tasks import TaskRequest

__all__ = ["BatchOutcome", "Policy", "Predictor", "TaskEnded", "Verdict", "Verification", "predict_batches"]


@dataclass(frozen=True, slots=True)
class Policy:
    """How much is tried.

    Attributes:
        in_flight: Requests sent ahead, so that the worker does not wait for the parent.
        max_failures: Structures that may fail in a row without one success.
        max_restarts: Workers that may be started anew, over all shards of one `Predictor`.
    """

    in_flight: int = 2
    max_failures: int = 20
    max_restarts: int = 200


class Verdict(StrEnum):
    """What the check of batch consistency found."""

    CONSISTENT = "consistent"
    INCONSISTENT = "inconsistent"
    UNDECIDED = "undecided"  # the model failed on these structures


@dataclass(frozen=True, slots=True)
class Verification:
    """Verdict and reason of the check of batch consistency; the reason is None where all is well."""

    verdict: Verdict
    reason: str | None = None


@dataclass(eq=False, slots=True)
class _Entry:
    """A batch of the plan on its way."""

    number: int
    batch_id: Hashable
    batch: StructureBatch
    outcome: OutcomeBuilder


@dataclass(order=True, slots=True)
class _Job:
    """Structures ``start`` to ``stop`` of an entry; jobs are ordered as in the plan."""

    number: int
    start: int
    stop: int = field(compare=False)
    entry: _Entry = field(compare=False)
    retried: bool = field(default=False, compare=False)

    @property
    def batch(self) -> StructureBatch:
        """The structures of this job."""
        whole = self.entry.batch
        return whole if self.stop - self.start == whole.n_structures else whole.slice(self.start, self.stop)

    def halves(self) -> tuple[_Job, _Job]:
        """Return the two halves; neither is retried unchanged."""
        middle = (self.start + self.stop + 1) // 2
        return (
            _Job(self.number, self.start, middle, self.entry, retried=True),
            _Job(self.number, middle, self.stop, self.entry, retried=True),
        )


class Predictor:
    """Keeps one worker with a loaded model alive over the shards of a task.

    Args:
        client_factory: Starts a worker, loads the model and returns the client; called again after every loss.
        policy: How much is tried.
    """

    def __init__(self, client_factory: Callable[[], WorkerClient], policy: Policy | None = None) -> None:
        """Keep the factory; the first worker is started when it is needed."""
        self.policy = policy or Policy()
        self.restarts = 0
        self.failures_in_a_row = 0
        self._factory = client_factory
        self._client: WorkerClient | None = None
        self._sent = 0

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the worker."""
        self.close()

    def close(self) -> None:
        """End the worker."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def client(self) -> WorkerClient:
        """Return the worker, started if there is none.

        Raises:
            MlipbenchError: It cannot be started or cannot load the model.
        """
        if self._client is None:
            self._client = self._factory()
        return self._client

    def resident(self) -> int:
        """Return the bytes that the worker holds; 0 when there is none."""
        return 0 if self._client is None else self._client.resident()

    def verify(self, batch: StructureBatch, request: TaskRequest) -> Verification:
        """Check that two to four unlike structures get the same predictions alone and in a batch.

        Raises:
            MlipbenchError: The worker cannot be started or cannot load the model.
        """
        try:
            reply = self.client().request(verify_message(batch, request))
        except WorkerLostError as error:
            self.close()
            return Verification(Verdict.UNDECIDED, error.problem)
        if reply.kind == MessageKind.FAILED:
            return Verification(Verdict.UNDECIDED, str(reply.header["error"]))
        reason = reply.header.get("reason")
        return Verification(Verdict.INCONSISTENT if reason else Verdict.CONSISTENT, reason)

    def predict_batches(
        self,
        batches: Iterable[tuple[Hashable, StructureBatch]],
        request: TaskRequest,
        commit: Callable[[Hashable, BatchOutcome], None],
    ) -> None:
        """Predict the batches of one shard and commit their outcomes in order.

        Args:
            batches: Identifier and structures of each batch, in the order of the plan.
            request: What is asked of the worker with each batch.
            commit: Called once a batch, in the order of the plan. The arrays it gets are its own.

        Raises:
            TaskEnded: The shard was given up; every batch that was attempted in part is committed before.
            MlipbenchError: The first worker cannot be started or cannot load the model.
        """
        try:
            _Shard(self, iter(batches), request, commit).run()
        except BaseException:
            self.close()  # requests may be in flight
            raise

    def next_request(self) -> int:
        """Return a number no request had before."""
        self._sent += 1
        return self._sent

    def replace(self) -> bool:
        """Start a new worker for the one that was lost; return False if too many were.

        A worker that cannot even start counts like one that was lost.
        """
        while self.restarts < self.policy.max_restarts:
            self.close()
            self.restarts += 1
            try:
                self.client()
            except WorkerLostError:
                continue
            return True
        return False

    def count(self, outcome: BatchOutcome) -> None:
        """Keep the number of failures in a row; a structure the model does not cover is neither failure nor success."""
        for index in sorted({*np.flatnonzero(outcome.ok).tolist()[-1:], *outcome.reasons}):
            self.failures_in_a_row = 0 if outcome.ok[index] else self.failures_in_a_row + 1


class _Shard:
    """The state of one shard while it is predicted."""

    def __init__(
        self,
        predictor: Predictor,
        batches: Iterator[tuple[Hashable, StructureBatch]],
        request: TaskRequest,
        commit: Callable[[Hashable, BatchOutcome], None],
    ) -> None:
        self._predictor = predictor
        self._batches = batches
        self._request = request
        self._commit = commit
        self._entries: deque[_Entry] = deque()
        self._waiting: list[_Job] = []  # sorted
        self._in_flight: deque[tuple[int, _Job]] = deque()
        self._taken = 0

    def run(self) -> None:
        """Predict everything."""
        while self._top_up():
            self._take_reply()
            self._commit_complete()
        self._commit_complete()  # empty batches at the end

    def _top_up(self) -> bool:
        """Send requests until enough are in flight; return whether any is."""
        while len(self._in_flight) < self._predictor.policy.in_flight:
            if not self._waiting and not self._take_batch():
                break
            job = self._waiting.pop(0)
            request_id = self._predictor.next_request()
            self._predictor.client().send(task_message(request_id, job.batch, self._request))
            self._in_flight.append((request_id, job))
        return bool(self._in_flight)

    def _take_batch(self) -> bool:
        """Take the next batch of the plan; return False if there is none."""
        for batch_id, batch in self._batches:
            entry = _Entry(self._taken, batch_id, batch, OutcomeBuilder(batch, self._request))
            self._taken += 1
            self._entries.append(entry)
            if batch.n_structures:
                self._waiting.append(_Job(entry.number, 0, batch.n_structures, entry))
                return True
        return False

    def _take_reply(self) -> None:
        try:
            reply = self._predictor.client().receive()
            request_id, job = self._in_flight[0]
            if reply.header.get("id") != request_id:
                raise WorkerProtocol("worker answered another request than the oldest")
            if reply.kind == MessageKind.FAILED:
                self._in_flight.popleft()
                self._divide(job, as_error(reply))
                return
            outcome = outcome_of(reply, job.batch, self._request)
        except WorkerLostError as error:
            self._recover(error)
            return
        self._in_flight.popleft()
        self._settle(job, outcome)

    def _recover(self, error: WorkerLostError) -> None:
        """Replace the worker; the oldest request is to blame, the others only wait again."""
        (_, blamed), *others = self._in_flight
        self._in_flight.clear()
        for _, job in others:
            bisect.insort(self._waiting, job)
        if not self._predictor.replace():
            self._give_up(f"{self._predictor.restarts} workers were lost, the last because: {error.problem}", error)
        if blamed.retried:
            self._divide(blamed, error)
        else:
            blamed.retried = True
            bisect.insort(self._waiting, blamed)

    def _divide(self, job: _Job, error: MlipbenchError) -> None:
        """Halve a job that failed, or record the one structure that is to blame."""
        if job.stop - job.start > 1:
            for half in job.halves():
                bisect.insort(self._waiting, half)
            return
        builder = OutcomeBuilder(job.batch, self._request)
        builder.fail(0, error.problem)
        self._settle(job, builder.build())

    def _settle(self, job: _Job, outcome: BatchOutcome) -> None:
        job.entry.outcome.add(job.start, outcome)
        self._predictor.count(outcome)
        failures = self._predictor.failures_in_a_row
        if failures >= self._predictor.policy.max_failures:
            last = next(reversed(outcome.reasons.values()))
            self._give_up(f"{failures} structures failed in a row, the last because: {last}")

    def _commit_complete(self) -> None:
        while self._entries and not self._entries[0].outcome.missing:
            entry = self._entries.popleft()
            self._commit(entry.batch_id, entry.outcome.build())

    def _give_up(self, reason: str, error: WorkerError | None = None) -> NoReturn:
        """Commit what was attempted, count what was not, and end the shard."""
        not_attempted = 0
        for entry in self._entries:
            missing = entry.outcome.missing
            not_attempted += missing
            if missing < entry.batch.n_structures or not missing:
                self._commit(entry.batch_id, entry.outcome.build(f"{NOT_ATTEMPTED}: {reason}"))
        not_attempted += sum(batch.n_structures for _, batch in self._batches)
        raise TaskEnded(reason, not_attempted, detail=error.detail if error else "") from error


def predict_batches(
    client_factory: Callable[[], WorkerClient],
    batches: Iterable[tuple[Hashable, StructureBatch]],
    request: TaskRequest,
    commit: Callable[[Hashable, BatchOutcome], None],
    policy: Policy | None = None,
) -> None:
    """Predict one shard with a worker of its own; see `Predictor.predict_batches`."""
    with contextlib.closing(Predictor(client_factory, policy)) as predictor:
        predictor.predict_batches(batches, request, commit)

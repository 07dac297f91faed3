"""Predicting one shard of a split and storing what comes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from mlipbench.errors import ConfigError, DatasetError, PrerequisiteError, WorkerError
from mlipbench.execution.evaluate import Verdict
from mlipbench.execution.failures import HandshakeRefused
from mlipbench.execution.outcome import NOT_ATTEMPTED, TaskEnded, empty_outcome
from mlipbench.runner.dynamics import not_simulated, remove_ledgers, simulate_batch
from mlipbench.status import Task
from mlipbench.store.predictions import PredictionBlock, SplitStore, State, read_shard
from mlipbench.store.timings import write_timings

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator
    from pathlib import Path

    from mlipbench.execution.evaluate import Predictor
    from mlipbench.execution.outcome import BatchOutcome
    from mlipbench.plan import PlannedSplit
    from mlipbench.plan.shards import Shard
    from mlipbench.progress import Display
    from mlipbench.store.rundir import RunDirectory
    from mlipbench.structures import StructureBatch
    from mlipbench.structures.columnar import Split
    from mlipbench.typing import IntArray

MODEL_ERRORS: Final = (ConfigError, DatasetError, WorkerError)
CHECKED_STRUCTURES: Final = 4
_LOOK_THROUGH: Final = 2000


@dataclass(frozen=True, slots=True)
class ShardJob:
    """One shard of a split to predict.

    Attributes:
        directory: The run.
        planned: The split as planned.
        shard: The shard.
        data: The structures of the whole split that are to be predicted.
        title: What the display calls it.
        reference: The trajectory that simulations are compared with; None for other tasks.
        cutoff: Å, that the model's card names, or None.
    """

    directory: RunDirectory
    planned: PlannedSplit
    shard: Shard
    data: Split
    title: str
    reference: Split | None = None
    cutoff: float | None = None

    @property
    def path(self) -> Path:
        """The Parquet file of the shard."""
        whole = self.directory.predictions(*self.planned.key)
        return whole if self.shard.alone else whole / f"{self.shard.name}.parquet"

    def batch(self, number: int) -> StructureBatch:
        """Return the structures of one batch of the plan."""
        return self.data.structures(*self._bounds(number))

    def seeds(self, number: int) -> IntArray:
        """Return the seeds of the replicas of one batch, shape (n_structures,)."""
        start, stop = self._bounds(number)
        return np.asarray(self.planned.request.parameters["seeds"][start:stop], dtype=np.int64)

    def _bounds(self, number: int) -> tuple[int, int]:
        return int(self.planned.bounds[number]), int(self.planned.bounds[number + 1])


@dataclass(frozen=True, slots=True)
class ShardOutcome:
    """What became of a shard; the fields are those of `mlipbench.store.records.ShardRecord`."""

    n_predicted: int
    n_failed: int
    n_not_applicable: int
    failed: str | None
    declined: str | None


def predict_shard(predictor: Predictor, job: ShardJob, display: Display) -> ShardOutcome:
    """Predict the batches of a shard that are not stored yet, and finish its Parquet file.

    Args:
        predictor: Keeps a worker with the model loaded.
        job: The shard.
        display: Shows progress.

    Raises:
        MlipbenchError: Results cannot be written.
        PrerequisiteError: What the model needs is not on this machine; the shard can be predicted later.
    """
    planned = job.planned
    ended: str | None = None
    if job.path.exists():
        job.path.with_suffix(".ledger").unlink(missing_ok=True)  # a kill came between the two
    else:
        store = SplitStore(job.path, job.data.counts, planned.bounds, planned.task, job.shard.batches)
        try:
            ended = _fill(predictor, job, store, display)
            _finish(store, job)
        except BaseException:
            store.close()
            raise
    return _summary(job, ended)


def _fill(predictor: Predictor, job: ShardJob, store: SplitStore, display: Display) -> str | None:
    """Predict and store every batch; return why the task was ended early, or None."""
    open_batches = [number for number in job.shard.batches if number not in store.committed]
    sizes = np.diff(job.planned.bounds)
    simulated = int(job.planned.request.parameters["steps"]) if job.planned.task is Task.MD else 0
    total = int(sizes[open_batches].sum())
    display.begin(job.title, total * (simulated or 1), *(("steps",) if simulated else ()))
    carry_out = _simulate if simulated else _predict
    reason: str | None = None
    if open_batches:
        try:
            reason = _inconsistency(predictor, job) or carry_out(predictor, job, store, open_batches, display)
        except (PrerequisiteError, HandshakeRefused):  # the disk is full, weights are missing, or the package changed
            raise
        except MODEL_ERRORS as error:  # the model cannot be had
            reason = str(error)
            display.note(f"{job.title}: {reason}")
    for number in open_batches:
        if number not in store.committed:
            store.commit(number, _not_attempted(job, number, str(reason)), ())
            display.advance(int(sizes[number]), int(sizes[number]))
    display.end(job.title, "ended early" if reason else "done")
    return reason


def _predict(
    predictor: Predictor, job: ShardJob, store: SplitStore, open_batches: list[int], display: Display
) -> str | None:
    def batches() -> Iterator[tuple[Hashable, StructureBatch]]:
        for number in open_batches:
            yield number, job.batch(number)

    def commit(number: Hashable, outcome: BatchOutcome) -> None:
        batch = int(str(number))
        planned = job.planned
        known = {"task": planned.task, "dataset": planned.dataset, "split": planned.split, "batch": batch}
        timings = [{**known, **asdict(timing)} for timing in outcome.timings]
        block = _block(job.batch(batch), outcome)
        store.commit(batch, block, timings)
        display.advance(len(outcome.ok), int(np.sum(block.state == State.FAILED)))

    try:
        predictor.predict_batches(batches(), job.planned.request, commit)
    except TaskEnded as error:
        return error.problem
    return None


def _simulate(
    predictor: Predictor, job: ShardJob, store: SplitStore, open_batches: list[int], display: Display
) -> str | None:
    for number in open_batches:
        try:
            simulate_batch(predictor, job, number, store, display.advance)
        except TaskEnded as error:
            return error.problem
    return None


def _not_attempted(job: ShardJob, number: int, reason: str) -> PredictionBlock:
    if job.planned.task is Task.MD:
        return not_simulated(job.batch(number), job.seeds(number), job.planned.request, reason)
    outcome = empty_outcome(job.batch(number), job.planned.request, f"{NOT_ATTEMPTED}: {reason}")
    return _block(job.batch(number), outcome)


def _inconsistency(predictor: Predictor, job: ShardJob) -> str | None:
    """Check that a few unlike structures get the same predictions alone and together; return what is wrong."""
    look = job.data.structures(0, min(job.planned.n_structures, _LOOK_THROUGH))
    _, first = np.unique(look.counts, return_index=True)
    chosen = np.unique(np.concatenate([first[: CHECKED_STRUCTURES - 1], [0, len(look) - 1]]))[:CHECKED_STRUCTURES]
    if len(chosen) < 2:  # noqa: PLR2004  # nothing to confuse a single structure with
        return None
    verification = predictor.verify(look.select(chosen), job.planned.request)
    return verification.reason if verification.verdict is Verdict.INCONSISTENT else None


def _block(batch: StructureBatch, outcome: BatchOutcome) -> PredictionBlock:
    state = np.where(outcome.ok, State.OK, State.FAILED).astype(np.uint8)
    state[list(outcome.not_applicable)] = State.NOT_APPLICABLE
    return PredictionBlock(
        offsets=batch.offsets,
        columns=outcome.columns,
        state=state,
        reasons={**outcome.reasons, **outcome.not_applicable},
    )


def _finish(store: SplitStore, job: ShardJob) -> None:
    if job.planned.task is Task.MD:
        remove_ledgers(job)  # a kill may have come between storing a batch and removing its ledger
    folder = job.directory.timings.with_suffix("")
    write_timings(folder / f"{'.'.join([*job.planned.key, job.shard.name])}.parquet", store.timings)
    store.finish(job.data.names)


def _summary(job: ShardJob, ended: str | None) -> ShardOutcome:
    """Count what stands in the Parquet file."""
    counts = dict.fromkeys(State, 0)
    reasons: dict[State, str] = {}
    for block in read_shard(job.path, job.planned.task, job.shard.start):
        for state in State:
            counts[state] += int(np.sum(block.state == state))
        for place, text in block.reasons.items():
            reasons.setdefault(State(block.state[place]), text)
    return ShardOutcome(
        n_predicted=counts[State.OK],
        n_failed=counts[State.FAILED],
        n_not_applicable=counts[State.NOT_APPLICABLE],
        failed=ended or reasons.get(State.FAILED),
        declined=reasons.get(State.NOT_APPLICABLE),
    )

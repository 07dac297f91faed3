"""Simulating the replicas of one split and storing what they do."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mlipbench.dynamics import Dynamics, End, Guards
from mlipbench.execution.dynamics import COLDEST, HOTTEST, Replicas, Simulation, first_state
from mlipbench.execution.outcome import NOT_ATTEMPTED, BatchOutcome, empty_outcome
from mlipbench.metrics.rdf import find_bonds, mean_bond_lengths
from mlipbench.models.interface import Property
from mlipbench.status import Task
from mlipbench.store.predictions import PredictionBlock, State
from mlipbench.store.trajectories import TrajectoryLedger, write_trajectories
from mlipbench.suite.tasks import Criterion
from mlipbench.tasks import TaskRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlipbench.dynamics import State as DynamicsState
    from mlipbench.execution.evaluate import Predictor
    from mlipbench.runner.splits import ShardJob
    from mlipbench.store.predictions import SplitStore
    from mlipbench.store.trajectories import Block
    from mlipbench.structures import StructureBatch
    from mlipbench.structures.columnar import Split
    from mlipbench.typing import AnyArray, IntArray

_STARTED = TaskRequest(frozenset({Property.ENERGY, Property.FORCES}))


def simulate_batch(
    predictor: Predictor, job: ShardJob, number: int, store: SplitStore, advance: Callable[[int], None]
) -> None:
    """Simulate the replicas of one batch, from where they are, and store how they ended and their trajectories.

    Args:
        predictor: Keeps a worker with the model loaded.
        job: The split.
        number: The batch.
        store: Where the ends are stored.
        advance: Told how many steps were taken, all replicas counted.

    Raises:
        MlipbenchError: Results cannot be written, or the model cannot be had.
    """
    batch, seeds = job.batch(number), job.seeds(number)
    started = _started(predictor, batch)
    able = np.flatnonzero(started.ok)
    folder = job.directory.trajectories(job.planned.dataset, job.planned.split)
    rows: list[dict[str, Any]] = []
    outcome = _columns(batch, seeds, started)
    if len(able):
        replicas = _replicas(batch.select(able), job)
        ledger = TrajectoryLedger(folder / f"batch-{number}.ledger")
        try:
            last = _run(predictor, replicas, tuple(seeds[able].tolist()), ledger, advance)
            place = (job.planned.dataset, job.planned.split)
            paths = [job.directory.trajectories(*place, int(seed)) for seed in seeds[able]]
            write_trajectories(ledger, replicas.start, paths)
            rows = [_timing(block, replicas.start) for block in ledger.blocks() if block.timing]
        except BaseException:
            ledger.close()
            raise
        outcome = _with_ends(outcome, able, last)
        store.commit(number, outcome, [{**_place(job, number), **row} for row in rows])
        ledger.remove()
    else:
        store.commit(number, outcome, ())


def remove_ledgers(job: ShardJob) -> None:
    """Remove the ledgers of batches whose trajectories are written."""
    folder = job.directory.trajectories(job.planned.dataset, job.planned.split)
    for number in job.shard.batches:
        (folder / f"batch-{number}.ledger").unlink(missing_ok=True)


def guards(start: StructureBatch, parameters: dict[str, Any], reference: Split) -> Guards:
    """Return what ends replicas while they run.

    Bonds are followed in molecules alone, since those of periodic structures may reach into the next cell.

    Args:
        start: The replicas where they begin.
        parameters: Of the task.
        reference: The reference trajectory.
    """
    stability = parameters["stability"]
    bonds, lengths, stretch = np.zeros((0, 2), dtype=np.int64), np.zeros(0), 0.0
    if stability is not None and stability["criterion"] == Criterion.BONDS and not start.pbc.any():
        positions, stretch = reference.frames(), float(stability["threshold"])
        found = [find_bonds(one.numbers, one.positions) for one in start]
        bonds = np.concatenate([pairs + first for pairs, first in zip(found, start.offsets[:-1], strict=True)])
        lengths = np.concatenate([mean_bond_lengths(positions, pairs) for pairs in found])
    return Guards(COLDEST, HOTTEST, bonds, lengths, stretch)


def _started(predictor: Predictor, batch: StructureBatch) -> BatchOutcome:
    """Predict the start structures, and so find out which replicas can begin."""
    found: list[BatchOutcome] = []
    predictor.predict_batches([(0, batch)], _STARTED, lambda _, outcome: found.append(outcome))
    return found[0]


def _replicas(start: StructureBatch, job: ShardJob) -> Replicas:
    from ase.data import atomic_masses

    parameters = dict(job.planned.request.parameters)
    interval = parameters["save_interval"]
    settings = {**parameters, "checkpoint_interval": interval * parameters["checkpoint_interval"]}
    if job.reference is None:
        raise AssertionError("a simulation without a reference trajectory")  # the plan opens one
    return Replicas(
        start=start,
        masses=np.asarray(atomic_masses[start.numbers], dtype=np.float64),
        dynamics=Dynamics.of(settings),
        guards=guards(start, parameters, job.reference),
        cutoff=job.cutoff,
    )


def _run(
    predictor: Predictor,
    replicas: Replicas,
    seeds: tuple[int, ...],
    ledger: TrajectoryLedger,
    advance: Callable[[int], None],
) -> DynamicsState:
    """Go on from the last checkpoint to the end of every replica."""
    known = ledger.last()
    state = known or first_state(replicas, seeds)
    if known is not None:
        advance(known.step * len(seeds))

    def commit(block: Block) -> None:
        done = ledger.last()
        ledger.append(block)
        advance((block.state.step - (done.step if done else 0)) * len(seeds))

    return Simulation(predictor, replicas, state, begins=known is None).run(commit)


def _columns(batch: StructureBatch, seeds: IntArray, started: BatchOutcome) -> PredictionBlock:
    """Return the rows of a batch with what is known before any replica moves."""
    n = batch.n_structures
    state = np.where(started.ok, State.OK, State.FAILED).astype(np.uint8)
    state[list(started.not_applicable)] = State.NOT_APPLICABLE
    columns: dict[str, AnyArray] = {
        "seed": np.array(seeds),
        "steps": np.zeros(n, np.int64),
        "end": np.zeros(n, np.uint8),
    }
    return PredictionBlock(batch.offsets, columns, state, {**started.reasons, **started.not_applicable})


def _with_ends(block: PredictionBlock, able: IntArray, last: DynamicsState) -> PredictionBlock:
    """Return the rows with how replicas ended; one that the model ended before its first step has failed."""
    reasons = dict(block.reasons)
    for number, place in enumerate(able.tolist()):
        block.columns["steps"][place], block.columns["end"][place] = last.ended[number], last.kinds[number]
        if last.reasons.get(number):
            reasons[place] = f"{last.reasons[number]} after step {last.ended[number]}"
        if last.ended[number] == 0 and last.kinds[number] not in {End.COMPLETED, End.PHYSICAL}:
            block.state[place] = State.FAILED
    return replace(block, reasons=reasons)


def _place(job: ShardJob, number: int) -> dict[str, Any]:
    return {"task": Task.MD, "dataset": job.planned.dataset, "split": job.planned.split, "batch": number}


def _timing(block: Block, start: StructureBatch) -> dict[str, Any]:
    timing = {name: value for name, value in block.timing.items() if name != "builds"}
    return {"n_structures": start.n_structures, "n_atoms": start.n_atoms, **timing}


def not_simulated(batch: StructureBatch, seeds: IntArray, request: TaskRequest, reason: str) -> PredictionBlock:
    """Return the rows of a batch that was never simulated, because the model cannot be had."""
    outcome = empty_outcome(batch, request, f"{NOT_ATTEMPTED}: {reason}")
    columns = {**outcome.columns, "seed": np.array(seeds)}
    state = np.full(len(outcome.ok), State.FAILED, dtype=np.uint8)
    return PredictionBlock(batch.offsets, columns, state, outcome.reasons)

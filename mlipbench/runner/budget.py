"""Measuring how much should go into one forward pass of a model."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mlipbench.budget import BatchBudget
from mlipbench.errors import WorkerError
from mlipbench.execution.client import WorkerSpec, loaded_client
from mlipbench.execution.failures import WorkerLostError
from mlipbench.execution.requests import LoadModel, task_message
from mlipbench.models.registry import adapter_target
from mlipbench.plan.batches import cut_batches
from mlipbench.plan.budgets import budget_file
from mlipbench.protocol import MessageKind
from mlipbench.store.files import write_atomically
from mlipbench.tasks import TaskRequest

if TYPE_CHECKING:
    from mlipbench.execution.client import WorkerClient
    from mlipbench.plan.budgets import BudgetQuestion
    from mlipbench.progress import Display
    from mlipbench.structures import StructureBatch
    from mlipbench.structures.columnar import Split

FIRST_ATOMS: Final = 64
LAST_ATOMS: Final = 262_144
GAIN: Final = 1.05  # a larger batch must be this much faster
PATIENCE: Final = 2  # larger sizes without a gain before the search ends
SECONDS: Final = 60.0  # no larger size is tried once a call takes longer


class BudgetSearch:
    """Measures budgets and keeps them in the cache.

    Doubles the atoms of a batch until that no longer makes the model faster, each size timed in the worker on its
    second call: the first at a new size is mostly page faults.

    Args:
        cache: The cache folder.
        display: Told what is measured.
    """

    def __init__(self, cache: Path, display: Display) -> None:
        """Keep the arguments."""
        self._cache = cache
        self._display = display

    def __call__(self, question: BudgetQuestion, dataset: str, split: Split) -> BatchBudget:
        """Measure, remember and return the budget; see `BudgetMeasure`.

        Raises:
            MlipbenchError: The model cannot be loaded.
            WorkerError: It fails already on the smallest batch.
        """
        self._display.note(f"{question.card.name}: measuring the batch budget, once for this model and device")
        with tempfile.TemporaryDirectory() as folder:
            rates = self._rates(_worker(question, dataset, Path(folder) / "log.txt"), question, split)
        if not rates:
            raise WorkerError(f"model {question.card.name!r} fails on the smallest batch, so no budget can be measured")
        budget = BatchBudget(atoms=max(rates, key=lambda atoms: (rates[atoms], -atoms)))
        content: dict[str, Any] = {
            "budget": budget.model_dump(exclude_none=True),
            "structures_per_second": {str(atoms): rate for atoms, rate in rates.items()},
            "model": question.card.name,
            "device": question.device,
            "threads": question.threads,
        }
        write_atomically(budget_file(self._cache, question), (json.dumps(content, indent=1) + "\n").encode())
        return budget

    def _rates(self, client: WorkerClient, question: BudgetQuestion, split: Split) -> dict[int, float]:
        """Return structures/s by atoms of a batch."""
        rates: dict[int, float] = {}
        best, without_gain, atoms = 0.0, 0, FIRST_ATOMS
        with client:
            while atoms <= LAST_ATOMS and without_gain < PATIENCE:
                batch = _batch(split, atoms)
                seconds = _seconds(client, batch, question)
                if seconds is None:
                    break
                rates[atoms] = batch.n_structures / seconds
                without_gain = 0 if rates[atoms] > GAIN * best else without_gain + 1
                best = max(best, rates[atoms])
                if seconds > SECONDS:
                    break
                atoms *= 2
        return rates


def _worker(question: BudgetQuestion, dataset: str, log: Path) -> WorkerClient:
    card = question.card
    spec = WorkerSpec(python=question.environment.interpreter(), log=log, threads=question.threads)
    model = LoadModel(
        adapter=adapter_target(card),
        device=question.device,
        dtype=question.precision,
        checkpoint=card.checkpoint_location(dataset),
        kwargs={**card.kwargs, **question.settings},
        threads=question.threads,
    )
    return loaded_client(spec, model)


def _batch(split: Split, atoms: int) -> StructureBatch:
    """Return the first structures of a split, repeated if need be, up to `atoms` atoms but at least one structure."""
    stop = int(cut_batches(split.counts, atoms)[1])
    batch = split.structures(0, stop)
    if stop < split.n_structures:
        return batch
    times = max(1, atoms // batch.n_atoms)
    return batch.select(np.tile(np.arange(batch.n_structures), times))


def _seconds(client: WorkerClient, batch: StructureBatch, question: BudgetQuestion) -> float | None:
    """Return the seconds of the second call on a batch, or None where the model fails on it."""
    request = TaskRequest(question.card.declared().properties)
    seconds = None
    for call in range(2):
        try:
            reply = client.request(task_message(call, batch, request))
        except WorkerLostError:
            return None
        if reply.kind == MessageKind.FAILED:
            return None
        seconds = reply.header["prepare_seconds"] + reply.header["forward_seconds"]
    return seconds

"""What a suite comes to: runs, splits, batches and the cells of the table, decided before any process starts."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mlipbench.environments import Provision
from mlipbench.status import Role, Status, Task, Training
from mlipbench.tasks import OUTPUTS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlipbench.budget import BatchBudget
    from mlipbench.datasets.entry import DatasetEntry
    from mlipbench.datasets.prepare import DataLocation
    from mlipbench.environments import Environment
    from mlipbench.models.card import Checkpoint, ModelCard
    from mlipbench.plan.applicability import EnergyRoute
    from mlipbench.plan.budgets import BudgetMeasure
    from mlipbench.plan.exposure import Exposure
    from mlipbench.plan.training import PlannedTraining
    from mlipbench.structures.columnar import Split
    from mlipbench.suite.schema import Suite
    from mlipbench.tasks import TaskRequest
    from mlipbench.typing import IntArray

BYTES_PER_ATOM: Final = 48
"""Positions and momenta of an atom in one frame of a trajectory."""
BYTES_PER_FRAME: Final = 600
"""What a frame of a trajectory takes besides, about."""
BYTES_PER_ROW: Final = 64
"""Index, name, state and the like of one structure, about."""


@dataclass(frozen=True, slots=True)
class Selection:
    """What of a suite is wanted.

    Attributes:
        models: Names of models, or paths of cards, that replace the suite's list; None keeps the suite's.
        limit: Most structures of each evaluated split; None takes all.
        device: Device that replaces the suite's and the cards'.
        threads: Threads of a worker; None takes ``OMP_NUM_THREADS``, else the processors at hand.
        trust: Whether cards given by path are trusted.
        isolated: Whether no model may run in the running interpreter.
        failed: Why an environment could not be built, by name.
        measure: Measures the batch budget of a model where neither suite nor card gives one; None leaves the run
            waiting for it.
    """

    models: tuple[str, ...] | None = None
    limit: int | None = None
    device: str | None = None
    threads: int | None = None
    trust: bool = False
    isolated: bool = False
    failed: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    measure: BudgetMeasure | None = None


@dataclass(frozen=True, slots=True)
class Variant:
    """The settings a card is run with.

    Attributes:
        name: Name of the table row's variant.
        precision: ``float32`` or ``float64``.
        device: Torch-style device.
        batch: Batch budget; None where it has yet to be measured.
        settings: Inference settings passed to the adapter.
    """

    name: str
    precision: str
    device: str
    batch: BatchBudget | None
    settings: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True, eq=False)
class PlannedSplit:
    """One split that one model is to predict.

    Attributes:
        request: The task, and what it asks of the worker.
        dataset: Name of the dataset.
        split: Name of the split.
        role: What it is predicted for; ``evaluate`` where it serves several ends.
        n_structures: Structures to predict.
        n_atoms: Atoms of these structures.
        bounds: Shape (n_batches + 1,), batch ``b`` holds structures ``bounds[b]:bounds[b + 1]``.
        selection: ``all``, or which structures in words.
        content_hash: Identity of the whole split.
        status: ``ok`` or ``not_applicable``.
        reason: Why it is not applicable.
        exposure: What the model has seen of these structures; None where they are not evaluated.
        places: Shape (n_structures,), which structures of the split these are; None where they are all.
        conditions: What timings depend on besides the model: device, threads and processor.
    """

    request: TaskRequest
    dataset: str
    split: str
    role: Role
    n_structures: int
    n_atoms: int
    bounds: IntArray
    selection: str
    content_hash: str
    status: Status = Status.OK
    reason: str | None = None
    exposure: Exposure | None = None
    places: IntArray | None = None
    conditions: str = ""

    @property
    def n_batches(self) -> int:
        """Number of batches."""
        return len(self.bounds) - 1

    @property
    def task(self) -> Task:
        """The task."""
        return self.request.task

    def taken(self, split: Split) -> Split:
        """Return the structures that are to be predicted, of the split that they are from."""
        return split if self.places is None else split.subset(self.places)

    @property
    def trajectory_bytes(self) -> int:
        """About how much disk space the trajectories of a simulation take; 0 of other tasks."""
        if self.task is not Task.MD or self.reason:
            return 0
        parameters = self.request.parameters
        frames = parameters["steps"] // parameters["save_interval"] + 1
        return int(frames * (self.n_atoms * BYTES_PER_ATOM + self.n_structures * BYTES_PER_FRAME))

    @property
    def prediction_bytes(self) -> int:
        """About how much disk space the predictions take; meanwhile it is twice that."""
        if self.reason or self.task is Task.EFFICIENCY:
            return 0
        asked = {one.value for one in self.request.properties}
        outputs = [one for one in OUTPUTS[self.task] if self.task is not Task.S2EF or one.name in asked]
        shapes = [(one.shape(self.n_structures, self.n_atoms), np.dtype(one.stored).itemsize) for one in outputs]
        return sum(math.prod(shape) * size for shape, size in shapes) + BYTES_PER_ROW * self.n_structures

    @property
    def key(self) -> tuple[Task, str, str]:
        """The task, the dataset and the split."""
        return self.task, self.dataset, self.split


@dataclass(frozen=True, slots=True)
class PlannedCell:
    """One number of the table, or why it will be empty.

    Attributes:
        task: The task.
        dataset: Name of the dataset.
        split: Name of the split.
        metric: Name of the metric.
        status: ``ok`` or ``not_applicable``.
        reason: Why it is not applicable.
        conversion: How energies are brought to one reference, None where nothing is done.
        comparability_key: Equal for numbers that may be ranked together.
        relation: How the model's training data relate to the split.
        training: What must be known of that.
    """

    task: Task
    dataset: str
    split: str
    metric: str
    status: Status
    reason: str | None
    conversion: str | None
    comparability_key: str
    relation: Training
    training: str | None


@dataclass(frozen=True, slots=True, eq=False)
class RunPlan:
    """One run: one suite, one model variant, one seed.

    Attributes:
        choice: What the suite or the user calls the model: its name, or the path of its card.
        card: The model's card.
        environment: What it runs in.
        trusted: Whether the card was admitted by the user's consent.
        variant: Settings.
        seed: Seed.
        threads: Threads of the worker.
        checkpoints: The checkpoint bound to each dataset.
        trainings: What has to be trained, or was, by dataset, where anything of it is predicted; empty unless the suite
            names a recipe.
        fits: The split that parameters are fitted on, by dataset; empty unless the model is fitted.
        splits: What is predicted.
        routes: How energies are compared, by dataset.
        cells: What the table will hold.
        missing: What stands in the way, one line each with its remedy.
        sha256: Identity of the plan of this run.
    """

    choice: str
    card: ModelCard
    environment: Environment
    trusted: bool
    variant: Variant
    seed: int
    threads: int
    checkpoints: Mapping[str, Checkpoint | None]
    trainings: Mapping[str, PlannedTraining]
    fits: Mapping[str, str]
    splits: tuple[PlannedSplit, ...]
    routes: Mapping[str, EnergyRoute]
    cells: tuple[PlannedCell, ...]
    missing: tuple[str, ...]
    sha256: str

    @property
    def model(self) -> str:
        """Name of the model."""
        return self.card.name

    @property
    def sharded(self) -> tuple[PlannedSplit, ...]:
        """The splits that shards are cut from: those that are predicted. Costs are measured in one piece."""
        wanted = (split for split in self.splits if split.status is Status.OK)
        return tuple(split for split in wanted if split.task is not Task.EFFICIENCY)

    def place(self, task: Task, dataset: str, split: str) -> str:
        """Return what a split is called in messages; its task is named where the run has several."""
        several = len({planned.task for planned in self.splits}) > 1
        return f"{dataset}/{split} ({task.value})" if several else f"{dataset}/{split}"


@dataclass(frozen=True, slots=True, eq=False)
class PlannedDataset:
    """A dataset of the suite, opened.

    Attributes:
        entry: The entry, overrides applied.
        splits: Every split that is needed, by name.
        evaluated: Names of the splits that the table shows.
        fit_split: The split that fits and shifts use by default.
        references_sha256: Checksum of the file that says which references a structure's adsorption energy uses.
        factors_sha256: Checksum of the file that says which levels of two factors a structure has.
    """

    entry: DatasetEntry
    splits: Mapping[str, Split]
    evaluated: tuple[str, ...]
    fit_split: str | None
    references_sha256: str | None = None
    factors_sha256: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """All runs of a suite.

    Attributes:
        suite: The suite.
        suite_sha256: Hash of the suite's content.
        location: Where data are.
        datasets: Opened datasets by name.
        runs: The runs.
        missing: What is missing of the data, and of models that are left out therefore, one line each with its remedy.
    """

    suite: Suite
    suite_sha256: str
    location: DataLocation
    datasets: Mapping[str, PlannedDataset]
    runs: tuple[RunPlan, ...]
    missing: tuple[str, ...]

    def unbuilt(self) -> list[Environment]:
        """Return the environments that have to be built before all runs of the plan can begin."""
        needed = [
            environment
            for run in self.runs
            if any(split.status is Status.OK for split in run.splits)
            for environment in (run.environment, *(one.environment for one in run.trainings.values() if not one.done))
        ]
        missing = [environment for environment in needed if environment.how is Provision.MISSING]
        return sorted({environment.name: environment for environment in missing}.values(), key=lambda one: one.name)

    def as_dict(self) -> dict[str, Any]:
        """Return the plan for ``--json``."""
        return {
            "suite": self.suite.suite,
            "version": self.suite.version,
            "missing": list(self.missing),
            "runs": [_run_as_dict(run) for run in self.runs],
        }


def _run_as_dict(run: RunPlan) -> dict[str, Any]:
    splits = [
        {
            "task": split.task.value,
            "dataset": split.dataset,
            "split": split.split,
            "role": split.role.value,
            "n_structures": split.n_structures,
            "n_atoms": split.n_atoms,
            "n_batches": split.n_batches,
            "selection": split.selection,
            "trajectory_bytes": split.trajectory_bytes,
            "prediction_bytes": split.prediction_bytes,
            "status": split.status.value,
            "reason": split.reason,
            **_exposure_as_dict(split.exposure),
        }
        for split in run.splits
    ]
    return {
        "model": run.model,
        "environment": _environment_as_dict(run.environment),
        "variant": run.variant.name,
        "precision": run.variant.precision,
        "device": run.variant.device,
        "batch": run.variant.batch.model_dump(exclude_none=True) if run.variant.batch else None,
        "seed": run.seed,
        "threads": run.threads,
        "trainings": {name: _training_as_dict(training) for name, training in run.trainings.items()},
        "fits": dict(run.fits),
        "plan_sha256": run.sha256,
        "missing": list(run.missing),
        "splits": splits,
        "cells": [_cell_as_dict(cell) for cell in run.cells],
    }


def _cell_as_dict(cell: PlannedCell) -> dict[str, Any]:
    return {
        "task": cell.task.value,
        "dataset": cell.dataset,
        "split": cell.split,
        "metric": cell.metric,
        "status": cell.status.value,
        "reason": cell.reason,
        "conversion": cell.conversion,
        "relation": cell.relation.value,
        "training": cell.training,
        "comparability_key": cell.comparability_key,
    }


def _exposure_as_dict(exposure: Exposure | None) -> dict[str, Any]:
    if exposure is None:
        return {}
    return {
        "relation": exposure.relation.value,
        "n_in_training": exposure.n_trained,
        "n_in_validation": exposure.n_validated,
    }


def _environment_as_dict(environment: Environment) -> dict[str, Any]:
    return {
        "name": environment.name,
        "how": environment.how.value,
        "python": str(environment.python),
        "requirements": list(environment.requirements),
    }


def _training_as_dict(training: PlannedTraining) -> dict[str, Any]:
    recipe = training.job.recipe
    return {
        "recipe": recipe.recipe,
        "version": recipe.version,
        "dataset": training.job.data.dataset,
        "identity": training.job.identity,
        "folder": str(training.folder),
        "done": training.done,
        "learning_rates": list(recipe.learning_rates),
        "steps": recipe.steps,
        "estimated_seconds": training.seconds,
    }

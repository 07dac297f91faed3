"""Which splits a model is to predict for one dataset, for what, and in which batches."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import numpy as np

from mlipbench.elements import format_elements
from mlipbench.machine import processor
from mlipbench.metrics.catalogue import TASK_METRICS
from mlipbench.models.interface import Property
from mlipbench.plan.applicability import foreign_elements, why_not_predictable
from mlipbench.plan.batches import batch_cost, cut_batches, occupied_density
from mlipbench.plan.dynamics import start_places, why_not_simulated
from mlipbench.plan.exposure import exposure, learnt_from
from mlipbench.plan.physics import asked_probes
from mlipbench.plan.plan import PlannedSplit
from mlipbench.plan.subset import described, stratified
from mlipbench.status import Role, Status, Task
from mlipbench.tasks import PhysicsFacts, TaskRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlipbench.checkpoint import CheckpointRecord
    from mlipbench.datasets.prepare import DataLocation
    from mlipbench.models.card import ModelCard
    from mlipbench.plan.applicability import EnergyRoute
    from mlipbench.plan.plan import PlannedDataset, Variant
    from mlipbench.plan.training import PlannedTraining
    from mlipbench.structures.columnar import Split
    from mlipbench.suite.schema import Suite
    from mlipbench.typing import FloatArray, IntArray

_CHUNK: Final = 10_000


@dataclass(frozen=True, slots=True)
class SplitQuestion:
    """A model on a dataset.

    Attributes:
        card: The model's card.
        variant: Its settings.
        name: Name of the dataset in the suite.
        dataset: The dataset.
        route: How energies are compared.
        weights: For a model that recipes train, the training that makes its weights, the record of those it has, or
            why it has none; None for other models.
        threads: Threads of a worker.
    """

    card: ModelCard
    variant: Variant
    name: str
    dataset: PlannedDataset
    route: EnergyRoute
    weights: PlannedTraining | CheckpointRecord | str | None
    threads: int


def plan_splits(
    question: SplitQuestion, suite: Suite, limit: int | None, location: DataLocation
) -> Iterator[PlannedSplit]:
    """Yield what a model is to predict of a dataset, what it cannot predict included.

    Structures that shifts and references need are left out where no split can be evaluated: nothing would use them.

    Args:
        question: The model and the dataset.
        suite: The suite.
        limit: Most structures of a split that is evaluated only; None takes all.
        location: Where data are.
    """
    card, dataset = question.card, question.dataset
    learnt = learnt_from(card, question.name, dataset, question.weights, location)
    chosen = _roles(dataset, question.route, suite)
    refusals = {
        (task, name): refusal(
            card, question.name, dataset, dataset.splits[name], question.weights, partly=task is Task.PHYSICS
        )
        for task, name in chosen
    }
    evaluable = any(reason is None for (_, name), reason in refusals.items() if name in dataset.evaluated)
    for (task, split_name), roles in chosen.items():
        if Role.EVALUATE not in roles and not evaluable:
            continue
        split, reason = dataset.splits[split_name], refusals[task, split_name]
        most = limit if roles == {Role.EVALUATE} else None
        taken = _choose(task, question.name, split, most, suite)
        if task is Task.MD and taken.places is not None:
            reason = reason or why_not_simulated(split, taken.places, question.name)
        yield PlannedSplit(
            request=_request(task, question, split, roles, suite),
            dataset=question.name,
            split=split_name,
            role=Role.EVALUATE if Role.EVALUATE in roles else min(roles),
            n_structures=len(taken.indices),
            n_atoms=int(split.counts[taken.indices].sum()),
            bounds=np.zeros(1, dtype=np.int64) if reason else _bounds(task, split, taken.indices, question),
            selection=taken.selection,
            content_hash=split.content_hash,
            status=Status.NOT_APPLICABLE if reason else Status.OK,
            reason=reason,
            exposure=exposure(learnt, split, _compared(taken, task)) if Role.EVALUATE in roles else None,
            places=taken.places,
            conditions=f"{question.variant.device}, {question.threads} threads, {processor()}",
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Chosen:
    """Which structures of a split a model is to predict.

    Attributes:
        indices: Shape (n_structures,), their places.
        places: The same where these are not all of the split, else None.
        selection: In words.
    """

    indices: IntArray
    places: IntArray | None
    selection: str


def _choose(task: Task, dataset: str, split: Split, most: int | None, suite: Suite) -> _Chosen:
    if task is Task.MD and suite.tasks.md is not None:
        places = start_places(suite.tasks.md, split, f"{dataset}/{split.name}")[:most]
        seeds = suite.tasks.md.seeds[: len(places)]
        pairs = ", ".join(f"{seed} from {place}" for seed, place in zip(seeds, places.tolist(), strict=True))
        return _Chosen(places, places, f"seeds {pairs}")
    size = split.n_structures
    places, words = np.arange(size), "all"
    if most is not None and most < size:
        places, words = stratified(split, most), described(most, size)
    measured = suite.tasks.efficiency
    if task is Task.EFFICIENCY and measured is not None and measured.structures < len(places):
        wanted = measured.structures
        spaced = np.linspace(0, len(places) - 1, wanted).round().astype(np.int64)
        among = f"the first {size}" if words == "all" else words
        places, words = places[spaced], f"{wanted} of {among}, evenly spaced"
    return _Chosen(places, None if len(places) == size else places, words)


def _request(task: Task, question: SplitQuestion, split: Split, roles: set[Role], suite: Suite) -> TaskRequest:
    """Return what the worker is asked for.

    For s2ef that is what the labels can judge, and energies alone for shifts and references; where all labels are
    hidden, somebody else will judge energies and forces. Other tasks follow the forces, with the parameters that the
    suite gives.
    """
    declared = question.card.declared()
    if task is not Task.S2EF:
        parameters = suite.tasks.chosen()[task].model_dump(mode="json", exclude={"metrics", "probes"})
        request = TaskRequest(frozenset({Property.ENERGY, Property.FORCES}), task, MappingProxyType(parameters))
        if task is not Task.PHYSICS:
            return request
        weights = question.weights
        known = declared.elements if weights is None or isinstance(weights, str) else frozenset(weights.elements)
        elements = None if known is None else tuple(sorted(known))
        return replace(request, physics=PhysicsFacts(declared.dtypes, elements, asked_probes(suite)))
    wanted = {Property.ENERGY}
    if Role.EVALUATE in roles:
        wanted |= {Property.FORCES} if split.has_forces or not split.has_labels else set()
        wanted |= {Property.STRESS} if split.has_stress else set()
    return TaskRequest(frozenset(wanted) & declared.properties)


def _roles(dataset: PlannedDataset, route: EnergyRoute, suite: Suite) -> dict[tuple[Task, str], set[Role]]:
    """Return what each split is predicted for, by task.

    Splits that models are only fitted on are not predicted, and neither are those that no metric of the suite uses.
    Shifts are fitted to, and references are, energies of structures as they are, whatever the tasks of the suite.
    """
    tasks = suite.tasks.chosen()
    metrics = [
        definition
        for task, part in tasks.items()
        for name, definition in TASK_METRICS[task].definitions.items()
        if part.metrics is None or name in part.metrics
    ]
    roles: dict[tuple[Task, str], set[Role]] = {}
    if route.fit is not None and any(metric.needs_one_reference for metric in metrics):
        roles.setdefault((Task.S2EF, route.fit), set()).add(Role.SHIFT)
    if dataset.entry.references is not None and any(metric.own_references for metric in metrics):
        roles.setdefault((Task.S2EF, dataset.entry.references.split), set()).add(Role.REFERENCE)
    for task in tasks:
        for name in _evaluated(task, dataset, suite):
            roles.setdefault((task, name), set()).add(Role.EVALUATE)
    return roles


def _evaluated(task: Task, dataset: PlannedDataset, suite: Suite) -> tuple[str, ...]:
    """Return the splits that a task is carried out on."""
    if task is Task.EFFICIENCY and suite.tasks.efficiency is not None:
        return suite.tasks.efficiency.measured(dataset.evaluated)
    return dataset.evaluated


def refusal(
    card: ModelCard,
    name: str,
    dataset: PlannedDataset,
    split: Split,
    weights: PlannedTraining | CheckpointRecord | str | None = None,
    *,
    partly: bool = False,
) -> str | None:
    """Return why a model cannot predict a split at all, or None.

    Args:
        card: The model's card.
        name: Name of the dataset in the suite.
        dataset: The dataset.
        split: The split.
        weights: As of `SplitQuestion`.
        partly: Whether structures of elements that the model does not cover are left out, as long as others stay.
    """
    if card.fitted and dataset.fit_split is None:
        return "the dataset names no split to fit the model on"
    if isinstance(weights, str):
        return weights
    if weights is not None and (foreign := foreign_elements(split, frozenset(weights.elements), partly=partly)):
        return f"the training structures hold no {format_elements(foreign)}"
    if card.trainer is None and card.checkpoints and card.checkpoint_for(name) is None:
        return f"the model has no checkpoint for {name}"
    return why_not_predictable(card.declared(), split, partly=partly)


def _compared(chosen: _Chosen, task: Task) -> IntArray | None:
    """Return which structures are looked up among those that a model learnt from: of simulations the whole split."""
    return None if task is Task.MD else chosen.places


def _bounds(task: Task, split: Split, places: IntArray, question: SplitQuestion) -> IntArray:
    """Return where batches of a split end; of what is called often enough for each structure, each is one."""
    card, variant = question.card, question.variant
    counts, size = split.counts[places], len(places)
    if task is Task.PHYSICS:
        return np.arange(size + 1, dtype=np.int64)
    if variant.batch is None:
        return np.asarray([0, size], dtype=np.int64)
    cutoff = card.declared().cutoff
    density = _densities(split, places) if variant.batch.edges is not None else np.zeros(size)
    cost, limit = batch_cost(variant.batch, counts, density, cutoff)
    return cut_batches(cost, limit)


def _densities(split: Split, places: IntArray) -> FloatArray:
    starts = range(0, len(places), _CHUNK)
    parts = [occupied_density(split.select(places[start : start + _CHUNK])) for start in starts]
    return np.concatenate([np.zeros(0), *parts])

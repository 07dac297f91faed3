"""The cells of the table: which numbers there will be, and what makes them comparable."""

from __future__ import annotations

import difflib
import hashlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from mlipbench.datasets.entry import GAP
from mlipbench.errors import ConfigError
from mlipbench.metrics.catalogue import TASK_METRICS
from mlipbench.metrics.cost import COST_METRICS
from mlipbench.metrics.parity import PARITY_METRICS
from mlipbench.plan.applicability import why_no_metric
from mlipbench.plan.dynamics import asked_about
from mlipbench.plan.dynamics import why_no_metric as why_no_dynamics
from mlipbench.plan.exposure import Exposure
from mlipbench.plan.physics import kinds_in, offered_physics, why_no_physics
from mlipbench.plan.plan import PlannedCell
from mlipbench.status import Status, Task, Training

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mlipbench.datasets.entry import Gap
    from mlipbench.metrics.definition import MetricDefinition
    from mlipbench.plan.applicability import EnergyRoute
    from mlipbench.plan.plan import PlannedDataset, PlannedSplit
    from mlipbench.plan.splits import SplitQuestion
    from mlipbench.structures.kinds import Kind
    from mlipbench.suite.schema import Suite

METRIC_VERSION: Final = 1
TIMING_VERSION: Final = 2
"""Of how the task ``efficiency`` times; 2 since the models of a round share their processors."""
"""Raised whenever a metric's definition changes; numbers of different versions are never ranked together."""


def check_metrics(suite: Suite) -> None:
    """Check the names of a suite's metrics.

    Raises:
        ConfigError: A name is unknown; close ones are listed.
    """
    for task, part in suite.tasks.chosen().items():
        known = TASK_METRICS[task].definitions
        for metric in part.metrics or ():
            if metric not in known:
                close = difflib.get_close_matches(metric, known) or list(known)
                raise ConfigError(
                    f"unknown metric {metric!r}",
                    where=f"tasks.{task.value}.metrics",
                    remedy=f"did you mean {' or '.join(close)}?",
                )


def plan_cells(
    question: SplitQuestion, split: PlannedSplit, suite: Suite, refused: Mapping[str, str]
) -> Iterator[PlannedCell]:
    """Yield the cells of one evaluated split of one model.

    Without a list in the suite, the metrics are all those that the labels allow.

    Args:
        question: The model and the dataset.
        split: The split.
        suite: The suite.
        refused: Why the model cannot predict a split that others rest on, by name of the split.
    """
    declared, dataset, route = question.card.declared(), question.dataset, question.route
    wanted = suite.tasks.chosen()[split.task].metrics
    seen = split.exposure or Exposure(Training.UNKNOWN)
    data = split.taken(dataset.splits[split.split])
    kinds = kinds_in(data) if split.task is Task.PHYSICS else frozenset()
    for metric in wanted or _offered(dataset, split, suite, kinds):
        definition = TASK_METRICS[split.task].definitions[metric]
        reason = split.reason or why_no_metric(definition, declared, data, route)
        if suite.tasks.md is not None and split.task is Task.MD:
            reference = dataset.splits[suite.tasks.md.reference]
            reason = reason or why_no_dynamics(definition.about, suite.tasks.md, dataset.entry, reference, data)
        if split.task is Task.PHYSICS:
            reason = reason or why_no_physics(definition, kinds, question)
        if definition.own_references and not _has_references(dataset, split.split):
            reason = reason or "the dataset ships no reference structures"
        reason = reason or _why_not_referred(definition, dataset, route, refused)
        if definition.needs_one_reference and route.fit == split.split:
            reason = reason or "the energy shift is fitted on this very split"
        conversion = route.conversion if definition.needs_one_reference else None
        yield PlannedCell(
            task=split.task,
            dataset=split.dataset,
            split=split.split,
            metric=metric,
            status=Status.NOT_APPLICABLE if reason else Status.OK,
            reason=reason,
            conversion=conversion,
            comparability_key=_key(split, dataset, definition, route),
            relation=seen.relation,
            training=seen.note,
        )


def gap_cells(cells: Sequence[PlannedCell], gap: Gap) -> Iterator[PlannedCell]:
    """Yield a cell for each metric whose gap between splits can be formed.

    Args:
        cells: The cells of one dataset.
        gap: The splits; metrics that are not planned for all of them have no gap.
    """
    by_metric: dict[tuple[str, str], dict[str, PlannedCell]] = {}
    for cell in cells:
        by_metric.setdefault((cell.task, cell.metric), {})[cell.split] = cell
    for found in by_metric.values():
        parts = [found[split] for split in gap.splits if split in found]
        if len(parts) < len(gap.splits):
            continue
        lacking = next((part for part in parts if part.reason), None)
        yield replace(
            parts[0],
            split=GAP,
            status=Status.OK if lacking is None else Status.NOT_APPLICABLE,
            reason=None if lacking is None else f"{lacking.split}: {lacking.reason}",
            comparability_key=_hashed([part.comparability_key for part in parts]),
        )


def _why_not_referred(
    definition: MetricDefinition[Any], dataset: PlannedDataset, route: EnergyRoute, refused: Mapping[str, str]
) -> str | None:
    """Return why the other split that a metric rests on cannot be predicted, or None."""
    references = dataset.entry.references
    if definition.own_references and references is not None and references.split in refused:
        return f"the references cannot be predicted: {refused[references.split]}"
    if definition.needs_one_reference and route.fit is not None and route.fit in refused:
        return f"the energy shift cannot be fitted: {refused[route.fit]}"
    return None


def _offered(dataset: PlannedDataset, split: PlannedSplit, suite: Suite, kinds: frozenset[Kind]) -> list[str]:
    if split.task is Task.MD and suite.tasks.md is not None:
        about = asked_about(suite.tasks.md)
        return [name for name, definition in TASK_METRICS[Task.MD].definitions.items() if definition.about in about]
    if split.task is Task.PHYSICS:
        return offered_physics(kinds, suite)
    if suite.tasks.efficiency is not None and split.task is Task.EFFICIENCY:
        return [*COST_METRICS, *(PARITY_METRICS if suite.tasks.efficiency.parity is not None else ())]
    columns = dataset.splits[split.split].column_names
    referred = _has_references(dataset, split.split)
    definitions = TASK_METRICS[split.task].definitions
    return [
        name
        for name, definition in definitions.items()
        if definition.needs <= columns and (referred or not definition.own_references)
    ]


def _has_references(dataset: PlannedDataset, split: str) -> bool:
    references = dataset.entry.references
    return references is not None and references.split != split


def _key(split: PlannedSplit, dataset: PlannedDataset, definition: MetricDefinition[Any], route: EnergyRoute) -> str:
    """Hash what must be equal between models for this number to be compared."""
    converted = definition.needs_one_reference
    parts = {
        "task": split.task,
        "dataset": split.content_hash,
        "selection": split.selection,
        "free_atoms_only": dataset.entry.free_atoms_only,
        "metric": definition.name,
        "metric_version": METRIC_VERSION,
        "conversion": route.conversion if converted else None,
    }
    if split.request.parameters:
        parts["parameters"] = dict(split.request.parameters)
    if split.task is Task.MD:
        parts["trajectory"] = dataset.splits[split.request.parameters["reference"]].content_hash
    if definition.timed:
        parts["conditions"] = split.conditions
        if split.task is Task.EFFICIENCY:
            parts["timing_version"] = TIMING_VERSION
    if converted and route.fit is not None:
        parts["fit"] = dataset.splits[route.fit].content_hash
    if definition.own_references and dataset.entry.references is not None:
        parts["references"] = dataset.splits[dataset.entry.references.split].content_hash
        parts["references_map"] = dataset.references_sha256
    return _hashed(parts)


def _hashed(parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

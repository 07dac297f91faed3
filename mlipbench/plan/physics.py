"""Which probes a suite asks for, and which of their metrics the structures of a split, and a model, allow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlipbench.metrics.physics import PHYSICS_METRICS
from mlipbench.metrics.probes import PROBES, Probe
from mlipbench.structures.kinds import Kind, kind_of

if TYPE_CHECKING:
    from mlipbench.metrics.definition import MetricDefinition
    from mlipbench.plan.plan import PlannedSplit
    from mlipbench.plan.splits import SplitQuestion
    from mlipbench.structures.columnar import Split
    from mlipbench.suite.schema import Suite


def asked_probes(suite: Suite) -> tuple[Probe, ...]:
    """Return what a suite wants tried: what it lists, and of that only what a metric of its list is taken from."""
    task = suite.tasks.physics
    if task is None:
        return ()
    listed = task.probes or tuple(Probe)
    used = {PHYSICS_METRICS[name].about for name in task.metrics or PHYSICS_METRICS}
    return tuple(probe for probe in listed if probe in used)


def offered_physics(split: Split, planned: PlannedSplit, suite: Suite) -> list[str]:
    """Return the metrics that the chosen structures of a split allow, by name."""
    asked, kinds = asked_probes(suite), _kinds(split, planned)
    possible = {probe for probe in asked if not kinds.isdisjoint(PROBES[probe])}
    return [name for name, definition in PHYSICS_METRICS.items() if definition.about in possible]


def why_no_physics(definition: MetricDefinition[Any], question: SplitQuestion, planned: PlannedSplit) -> str | None:
    """Return why a metric cannot be had of a split, or not of a model; None where it can."""
    declared = question.card.declared()
    needed = PROBES[Probe(definition.about)]
    if _kinds(question.dataset.splits[planned.split], planned).isdisjoint(needed):
        return f"it needs a structure that is a {' or '.join(sorted(needed))}, and the split holds none"
    if definition.precision not in {None, question.variant.precision}:
        return f"it means something in {definition.precision} only, and the model runs in {question.variant.precision}"
    if definition.precisions and len(declared.dtypes) == 1:
        return f"the model is offered in {declared.dtypes[0]} only"
    return None


def _kinds(split: Split, planned: PlannedSplit) -> set[Kind]:
    structures = split.structures(0, planned.n_structures)
    return {kind_of(structures.slice(index, index + 1)) for index in range(len(structures))}

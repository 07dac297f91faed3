"""Which probes a suite asks for, and which of their metrics the structures of a split, and a model, allow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlipbench.metrics.physics import PHYSICS_METRICS
from mlipbench.metrics.probes import PROBES, Probe
from mlipbench.structures.kinds import Kind, kind_of

if TYPE_CHECKING:
    from mlipbench.metrics.definition import MetricDefinition
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


def kinds_in(split: Split) -> frozenset[Kind]:
    """Return the kinds of the structures of a split."""
    structures = split.structures(0, len(split))
    return frozenset(kind_of(structures.slice(index, index + 1)) for index in range(len(split)))


def offered_physics(kinds: frozenset[Kind], suite: Suite) -> list[str]:
    """Return the metrics that structures of some kinds allow, by name."""
    possible = {probe for probe in asked_probes(suite) if not kinds.isdisjoint(PROBES[probe])}
    return [name for name, definition in PHYSICS_METRICS.items() if definition.about in possible]


def why_no_physics(definition: MetricDefinition[Any], kinds: frozenset[Kind], question: SplitQuestion) -> str | None:
    """Return why a metric cannot be had of structures of some kinds, or not of a model; None where it can."""
    declared = question.card.declared()
    needed = PROBES[Probe(definition.about)]
    if kinds.isdisjoint(needed):
        return f"it needs a structure that is a {' or '.join(sorted(needed))}, and the split holds none"
    if definition.precision not in {None, question.variant.precision}:
        return f"it means something in {definition.precision} only, and the model runs in {question.variant.precision}"
    if definition.about == Probe.PRECISION and len(declared.dtypes) == 1:
        return f"the model is offered in {declared.dtypes[0]} only"
    return None

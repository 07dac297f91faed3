"""Which numbers keep to the threshold of their metric."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mlipbench.metrics.catalogue import find_metric
from mlipbench.metrics.values import Direction
from mlipbench.models.interface import ForceKind

if TYPE_CHECKING:
    from mlipbench.comparison.collect import RunRecord
    from mlipbench.store.records import MetricRecord

_MARKS: Final = {True: " ✓", False: " ✗", None: ""}
_SIGNS: Final = {Direction.LOWER: "≤", Direction.HIGHER: "≥", Direction.NEITHER: ""}
NOT_CLAIMED: Final = "no verdict: the model declares direct forces and does not claim this"


def verdict(run: RunRecord, record: MetricRecord | None) -> bool | None:
    """Return whether a number keeps to the threshold of its metric.

    None where there is no number or no threshold, and where the model does not claim what the metric asks.
    """
    definition = None if record is None else find_metric(record.task, record.metric)
    if record is None or record.value is None or definition is None or not_claimed(run, record):
        return None
    return definition.passes(record.value)


def not_claimed(run: RunRecord, record: MetricRecord | None) -> bool:
    """Return whether a metric asks what only models claim whose forces are a gradient, and this one does not."""
    if record is None or record.value is None or run.manifest is None:
        return False
    definition = find_metric(record.task, record.metric)
    if definition is None or not definition.conservative:
        return False
    capabilities = run.manifest.model.card.get("capabilities", {})
    return bool(capabilities.get("forces") == ForceKind.DIRECT)


def mark(run: RunRecord, record: MetricRecord | None) -> str:
    """Return what stands behind a number: `` ✓`` where it keeps to the threshold, `` ✗`` where not, or nothing."""
    return _MARKS[verdict(run, record)]


def limit(task: str, metric: str, factor: float) -> str:
    """Return the threshold of a metric for the head of its column, such as `` ≤ 20``; empty where there is none.

    Args:
        task: Name of the task.
        metric: Name of the metric.
        factor: What stored numbers are multiplied by to be in the unit shown.
    """
    definition = find_metric(task, metric)
    if definition is None or definition.threshold is None:
        return ""
    return f" {_SIGNS[definition.direction]} {definition.threshold.limit * factor:.6g}"

"""The metrics of every task."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from mlipbench.metrics.cost import COST_METRICS
from mlipbench.metrics.dynamics import DYNAMICS_METRICS, ReplicaScores
from mlipbench.metrics.errors import S2EF_METRICS
from mlipbench.metrics.parity import PARITY_METRICS
from mlipbench.metrics.physics import PHYSICS_METRICS
from mlipbench.metrics.probes import PhysicsFindings
from mlipbench.metrics.relaxation import RELAXATION_METRICS, RelaxationErrors
from mlipbench.metrics.values import StructureErrors
from mlipbench.status import Task

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlipbench.metrics.definition import MetricDefinition

ScoreColumns: TypeAlias = StructureErrors | RelaxationErrors | ReplicaScores | PhysicsFindings
"""The score columns of the tasks."""


@dataclass(frozen=True, slots=True)
class TaskMetrics:
    """What a task is scored by.

    Attributes:
        columns: Class of the score columns, one row per structure; None where nothing is scored structure by structure.
        definitions: The metrics by name, in the order of tables.
    """

    columns: type[ScoreColumns] | None
    definitions: Mapping[str, MetricDefinition[Any]]


TASK_METRICS: Final[Mapping[Task, TaskMetrics]] = MappingProxyType(
    {
        Task.S2EF: TaskMetrics(StructureErrors, S2EF_METRICS),
        Task.RELAXATION: TaskMetrics(RelaxationErrors, RELAXATION_METRICS),
        Task.MD: TaskMetrics(ReplicaScores, DYNAMICS_METRICS),
        Task.PHYSICS: TaskMetrics(PhysicsFindings, PHYSICS_METRICS),
        Task.EFFICIENCY: TaskMetrics(None, MappingProxyType({**COST_METRICS, **PARITY_METRICS})),
    }
)


def find_metric(task: str, metric: str) -> MetricDefinition[Any] | None:
    """Return the definition of a metric; None where there is no such task or metric, as in published rows."""
    return TASK_METRICS[Task(task)].definitions.get(metric) if task in set(Task) else None

"""What counts as worse: the direction, the tolerance and the effect of each metric."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field

from mlipbench.errors import ConfigError
from mlipbench.metrics.catalogue import TASK_METRICS, find_metric
from mlipbench.metrics.values import Direction, Kind
from mlipbench.status import Task
from mlipbench.yamlfile import did_you_mean, read_yaml, validate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mlipbench.comparison.changes import Place
    from mlipbench.metrics.definition import MetricDefinition

RELATIVE: Final = 0.01
"""Tolerance of errors, as a share of the baseline's."""
SHARE: Final = 0.005
"""Tolerance of shares and correlations, half a percentage point."""
MACHINE: Final = 0.05
"""Tolerance of what depends on the machine, as a share of the baseline's."""

_Tolerance = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Effect(StrEnum):
    """What a metric that got worse does."""

    FAIL = "fail"
    WARN = "warn"
    IGNORE = "ignore"


class Worse(StrEnum):
    """Which way of a metric is the worse one."""

    LOWER = "lower"
    HIGHER = "higher"
    EITHER = "either"


class MetricPolicy(BaseModel):
    """What counts as worse of one metric; what is left out is as without a policy.

    Attributes:
        worse: Which way is the worse one.
        absolute: Tolerance in the unit the metric is stored in (`mlipbench list metrics`).
        relative: Tolerance as a share of the baseline's value; the larger of the two counts.
        effect: What a metric that got worse by more than that does.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    worse: Worse | None = None
    absolute: _Tolerance | None = None
    relative: _Tolerance | None = None
    effect: Effect | None = None


class PolicyFile(BaseModel):
    """A file of a policy.

    Attributes:
        policy: Its name.
        metrics: By name of the metric, or by task and metric, such as ``relaxation.energy_mae``, which goes first.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    policy: str
    metrics: dict[str, MetricPolicy] = Field(default_factory=dict)


class Rule(BaseModel):
    """What counts as worse of one metric, complete."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    worse: Worse
    absolute: float = 0.0
    relative: float = 0.0
    effect: Effect = Effect.FAIL

    def tolerance(self, value: float) -> float:
        """Return the largest change for the worse that is tolerated of a value, in the metric's unit."""
        return max(self.absolute, self.relative * abs(value))

    def worsening(self, difference: float) -> float:
        """Return by how much a difference is for the worse; negative where it is for the better."""
        if self.worse is Worse.EITHER:
            return abs(difference)
        return difference if self.worse is Worse.HIGHER else -difference


class Policy:
    """The rules of all metrics.

    Args:
        file: What a file says of some, None for no file.
    """

    def __init__(self, file: PolicyFile | None = None) -> None:
        """Keep what the file says."""
        self._own = {} if file is None else file.metrics
        self.name = "default" if file is None else file.policy

    def rule(self, place: Place) -> Rule | None:
        """Return the rule of a metric, None where nothing is known of it."""
        definition = find_metric(place.task, place.metric)
        if definition is None:
            return None
        said: dict[str, Any] = {}
        for name in (place.metric, f"{place.task}.{place.metric}"):
            if name in self._own:
                said |= self._own[name].model_dump(exclude_none=True)
        return Rule.model_validate(_default(Task(place.task), definition).model_dump() | said)


def read_policy(path: Path) -> Policy:
    """Read a file of a policy.

    Raises:
        ConfigError: It is invalid, or names a metric that does not exist.
        PrerequisiteError: It is missing or cannot be read.
    """
    file = validate(PolicyFile, read_yaml(path), path)
    known = set(_names())
    for name in file.metrics:
        if name not in known:
            raise ConfigError(f"unknown metric {name!r}", file=path, where="metrics", remedy=did_you_mean(name, known))
    return Policy(file)


def _names() -> Iterator[str]:
    for task, metrics in TASK_METRICS.items():
        for name in metrics.definitions:
            yield name
            yield f"{task.value}.{name}"


def _default(task: Task, definition: MetricDefinition[Any]) -> Rule:
    """Return the rule of a metric that no policy speaks of.

    Errors may grow by a hundredth, shares and correlations fall by half a percentage point, and what is counted may not
    grow at all. Metrics that improve neither way are ignored, but for counted ones, of which any change is a warning.
    So is a twentieth of what depends on the machine: times are judged side by side (`mlipbench.gate.times`).
    """
    counted = task is Task.EFFICIENCY and not definition.timed
    if definition.direction is Direction.NEITHER:
        return Rule(worse=Worse.EITHER, effect=Effect.WARN if counted else Effect.IGNORE)
    worse = Worse.HIGHER if definition.direction is Direction.LOWER else Worse.LOWER
    if counted:
        return Rule(worse=worse)
    if definition.timed:
        return Rule(worse=worse, relative=MACHINE, effect=Effect.WARN)
    if definition.scale.kind in {Kind.FRACTION, Kind.BOUNDED}:
        return Rule(worse=worse, absolute=SHARE)
    return Rule(worse=worse, relative=RELATIVE)

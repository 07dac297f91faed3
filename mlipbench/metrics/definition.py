"""What a metric is: sums over the score columns of a task, and how they become one number.

Metrics take two steps, because what is stored is in between: each task turns labels and predictions into one row of
columns per structure, and `evaluate` turns such rows into a metric. Every metric is Σ numerator / Σ denominator over
structures, as fairchem's evaluator aggregates (`fairchem/core/modules/evaluator.py`, ``total`` over ``numel``), then
the transform.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

from mlipbench.metrics.statistics import Interval, cluster_interval, design_effect, ratio_of_sums
from mlipbench.metrics.values import Direction, MetricValue, Quantity

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlipbench.metrics.statistics import Bootstrap
    from mlipbench.metrics.values import Scale
    from mlipbench.typing import AnyArray, BoolArray, FloatArray

Columns = TypeVar("Columns")
"""The score columns of a task, such as `mlipbench.metrics.values.StructureErrors`."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its interval, as a metric of its own kind estimates it.

    Attributes:
        value: The number, None where there is none.
        low: Lower end of its 95 % interval, None where there is none.
        high: Upper end.
        n: Structures, or replicas, that entered.
        reason: Why something is missing, or what must be known.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Threshold:
    """The number that separates what passes from what does not.

    Attributes:
        limit: In the unit of the metric; a value as good as it passes.
        source: Where it comes from.
    """

    limit: float
    source: str


@dataclass(frozen=True, slots=True)
class MetricDefinition(Generic[Columns]):
    """How a metric follows from the score columns of its task.

    Attributes:
        name: Name, following fairchem's evaluator where it has one.
        unit: Unit of the metric.
        direction: Which way the metric improves.
        title: Short name for tables.
        formula: Formula in words, with its source.
        numerator: Per-structure numerator, shape (n_structures,).
        denominator: Per-structure denominator, shape (n_structures,); 0 or NaN leaves the structure out.
        scale: Range of the metric and what is applied to the ratio of sums.
        needs: What it needs of the split.
        own_references: Whether it compares energies against the model's own references, whatever the labels' are.
        about: Of simulations, what it is about, as `mlipbench.plan.dynamics.why_no_metric` lists it; of physics, the
            probe that it is taken from, a `mlipbench.metrics.probes.Probe`.
        timed: Whether it depends on the machine.
        estimate: Returns value and interval where these are not those of the ratio of sums, None there.
        differ: Returns, where `estimate` does, the two-sided p-value of no difference between two models over the same
            replicas; None where nothing can be told.
        threshold: What separates pass from fail; None where nobody drew a line.
        conservative: Whether it asks what only models claim whose forces are a gradient; others have a number and no
            verdict.
        precision: The only precision that it means something in; None for all.
    """

    name: str
    unit: str
    direction: Direction
    title: str
    formula: str
    numerator: Callable[[Columns], FloatArray]
    denominator: Callable[[Columns], FloatArray]
    scale: Scale
    needs: frozenset[Quantity] = frozenset()
    own_references: bool = False
    about: str = ""
    timed: bool = False
    estimate: Callable[[Columns], Estimate] | None = None
    differ: Callable[[Columns, Columns], float | None] | None = None
    threshold: Threshold | None = None
    conservative: bool = False
    precision: str | None = None

    @property
    def needs_one_reference(self) -> bool:
        """Whether predicted and labelled energies must be measured against the same reference."""
        if self.own_references or Quantity.CLUSTERS in self.needs:  # within a cluster no reference enters
            return False
        return not self.needs.isdisjoint({Quantity.ENERGY, Quantity.RELAXED_ENERGY})

    def passes(self, value: float) -> bool | None:
        """Return whether a value is as good as the threshold; None where there is none."""
        if self.threshold is None:
            return None
        if self.direction is Direction.HIGHER:
            return value >= self.threshold.limit
        return value <= self.threshold.limit


def numerator_denominator(
    definition: MetricDefinition[Columns], columns: Columns, include: BoolArray | None = None
) -> tuple[FloatArray, FloatArray]:
    """Form a metric's per-structure numerator and denominator.

    Args:
        definition: The metric.
        columns: Error sums of n_structures structures.
        include: Shape (n_structures,), False where this metric does not apply (such as an energy that cannot be
            converted); None where it applies to all.

    Returns:
        Two arrays of shape (n_structures,), both 0 for a structure that does not enter: not included, NaN in a column
        the metric needs, or nothing to count.

    Raises:
        ValueError: If `include` has another shape than the columns.
    """
    numerator = np.asarray(definition.numerator(columns), dtype=np.float64)
    denominator = np.asarray(definition.denominator(columns), dtype=np.float64)
    enters = ~np.isnan(numerator) & (denominator > 0)
    if include is not None:
        enters &= shaped(include, enters.shape, "include").astype(bool)
    return np.where(enters, numerator, 0.0), np.where(enters, denominator, 0.0)


def evaluate(
    definition: MetricDefinition[Columns],
    columns: Columns,
    clusters: AnyArray,
    include: BoolArray | None = None,
    bootstrap: Bootstrap | None = None,
) -> MetricValue:
    """Compute a metric with its interval.

    Args:
        definition: The metric.
        columns: Error sums of n_structures structures.
        clusters: Shape (n_structures,), which structures belong together (any labels).
        include: Shape (n_structures,), False where this metric does not apply; None where it applies to all.
        bootstrap: Seed, resamples and level of the interval; None for the defaults.

    Returns:
        The metric; its value is None, with the reason, where no structure enters.

    Raises:
        ValueError: If shapes do not fit.
    """
    if definition.estimate is not None:
        return _estimated(definition, definition.estimate(columns))
    numerator, denominator = numerator_denominator(definition, columns, include)
    clusters = shaped(clusters, numerator.shape, "clusters")
    enters = denominator > 0
    numerator, denominator, clusters = numerator[enters], denominator[enters], clusters[enters]
    n, n_clusters = numerator.size, np.unique(clusters).size
    value = ratio_of_sums(numerator, denominator, definition.scale.transform) if n else math.nan
    if not math.isfinite(value):
        why = "the sum of errors overflows" if n else f"no structure has what {definition.name} needs"
        interval, effect = Interval(None, None, n_clusters, f"{why} ({n} of {enters.size} structures enter)"), None
    else:
        interval = cluster_interval(numerator, denominator, clusters, definition.scale, bootstrap)
        effect = design_effect(numerator, denominator, clusters)
    return MetricValue(
        name=definition.name,
        value=value if math.isfinite(value) else None,
        unit=definition.unit,
        direction=definition.direction,
        n=n,
        ci_low=interval.low,
        ci_high=interval.high,
        n_clusters=n_clusters,
        reason=interval.reason,
        design_effect=effect,
    )


def _estimated(definition: MetricDefinition[Columns], found: Estimate) -> MetricValue:
    return MetricValue(
        name=definition.name,
        value=found.value,
        unit=definition.unit,
        direction=definition.direction,
        n=found.n,
        ci_low=found.low,
        ci_high=found.high,
        n_clusters=found.n,
        reason=found.reason,
    )


def shaped(array: AnyArray, shape: tuple[int, ...], name: str) -> AnyArray:
    """Return the array if it has the shape.

    Raises:
        ValueError: It has another one.
    """
    array = np.asarray(array)
    if array.shape != shape:
        msg = f"{name} has shape {array.shape}, expected {shape}"
        raise ValueError(msg)
    return array

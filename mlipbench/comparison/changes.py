"""The numbers of two runs side by side, and how one changes to the other, from scores and timed calls."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mlipbench.errors import ResultsError
from mlipbench.metrics.catalogue import find_metric
from mlipbench.metrics.contrast import Estimate
from mlipbench.metrics.dynamics import ReplicaScores
from mlipbench.metrics.paired import (
    Change,
    counted_change,
    independent_ratio,
    replicas_change,
    single_change,
    structures_change,
)
from mlipbench.metrics.paired_costs import ONCE, PAIRED, RATIO, call_change, same_rounds
from mlipbench.status import Task
from mlipbench.store.rundir import RunDirectory
from mlipbench.store.timings import read_calls

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlipbench.comparison.collect import RunRecord
    from mlipbench.comparison.scores import ScoreReader, Scores
    from mlipbench.cost import Call
    from mlipbench.metrics.definition import MetricDefinition
    from mlipbench.metrics.resampling import Bootstrap
    from mlipbench.store.records import MetricRecord
    from mlipbench.typing import IntArray


class Place(NamedTuple):
    """Where a number stands in a run.

    Attributes:
        task: Name of the task.
        dataset: Name of the dataset.
        split: Name of the split.
        metric: Name of the metric.
    """

    task: str
    dataset: str
    split: str
    metric: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why two numbers are not set against each other.

    Attributes:
        reason: Why.
        missing: Whether something is not there; else both are, and cannot be compared.
    """

    reason: str
    missing: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Shared:
    """The scores of structures that two runs have.

    Attributes:
        a: Scores of A.
        b: Scores of B.
        rows_a: Shape (n_structures,), where the structures stand in A's file.
        rows_b: The same for B.
        n_all: Structures that either has.
    """

    a: Scores
    b: Scores
    rows_a: IntArray
    rows_b: IntArray
    n_all: int


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """The numbers of two runs in one place.

    Attributes:
        place: The place.
        a: The run that is compared with.
        b: The run that is compared.
        one: The number of A, None where it has none.
        other: The number of B.
    """

    place: Place
    a: RunRecord
    b: RunRecord
    one: MetricRecord | None
    other: MetricRecord | None

    @property
    def missing(self) -> tuple[str, ...]:
        """Why there are not two numbers; empty where there are."""
        said: dict[str, str] = {}
        for name, record in (("A", self.one), ("B", self.other)):
            if record is None:
                said[name] = "holds no such number"
            elif record.value is None:
                status = record.status.value.replace("_", " ")
                said[name] = f"{status}: {record.reason or 'no reason is recorded'}"
        sides = {why: " and ".join(name for name in said if said[name] == why) for why in said.values()}
        return tuple(f"{names}: {why}" for why, names in sides.items())

    @property
    def definition(self) -> MetricDefinition[Any] | None:
        """What the metric is, None where nothing is known of it."""
        return find_metric(self.place.task, self.place.metric)

    def shared(self, scores: ScoreReader) -> Shared | str:
        """Return the scores of the structures that both have, or why there are none.

        Args:
            scores: Where scores come from.

        Raises:
            ResultsError: A file is damaged.
        """
        tables = [None if record is None else scores.read(run, record) for run, record in self._sides]
        lacking = [name for name, table in zip("AB", tables, strict=True) if table is None]
        first, second = tables
        if first is None or second is None:
            return f"there are no scores of {' and '.join(lacking)}; rebuild them with `mlipbench score`"
        common, rows_a, rows_b = np.intersect1d(first.index, second.index, return_indices=True)
        return Shared(first, second, rows_a, rows_b, len(first.index) + len(second.index) - len(common))

    @property
    def _sides(self) -> tuple[tuple[RunRecord, MetricRecord | None], ...]:
        return (self.a, self.one), (self.b, self.other)


def measured_change(pair: Pair, scores: ScoreReader, bootstrap: Bootstrap) -> Change | Refusal:
    """Return how a number changes from A to B.

    Args:
        pair: Two numbers with values and nothing that keeps them from being compared.
        scores: Where scores come from.
        bootstrap: Seed and resamples of intervals over structures.

    Raises:
        ResultsError: A file of scores or timings is damaged.
    """
    definition = pair.definition
    if definition is None:
        return Refusal("this version of mlipbench knows no such metric", missing=False)
    if pair.place.task == Task.EFFICIENCY:
        return _cost_change(pair, definition)
    if definition.timed:
        return Refusal("measured one after the other, not in the same rounds", missing=False)
    shared = pair.shared(scores)
    if isinstance(shared, str):
        return Refusal(shared)
    try:
        change = _scored_change(definition, shared, bootstrap)
    except ValueError as error:
        remedy = "rebuild the scores of both with `mlipbench score`"
        raise ResultsError(
            f"damaged scores: {error}", file=f"{pair.a.directory} or {pair.b.directory}", remedy=remedy
        ) from None
    if change.difference is None or not math.isfinite(change.difference.value):
        return Refusal(change.reason or "the sum of errors overflows")
    said = "; ".join(filter(None, (change.reason, _left_out(shared, change.n))))
    return dataclasses.replace(change, reason=said or None)


def _scored_change(definition: MetricDefinition[Any], shared: Shared, bootstrap: Bootstrap) -> Change:
    first, second = shared.a.errors, shared.b.errors
    if isinstance(first, ReplicaScores) and isinstance(second, ReplicaScores):
        return replicas_change(definition, _taken(first, shared.rows_a), _taken(second, shared.rows_b))
    sides = ((shared.a, shared.rows_a), (shared.b, shared.rows_b))
    (num_a, den_a), (num_b, den_b) = (tuple(part[rows] for part in own.sums(definition)) for own, rows in sides)
    clusters = shared.a.clusters[shared.rows_a]
    return structures_change((num_a, den_a), (num_b, den_b), clusters, definition.scale, bootstrap)


def _taken(scores: ReplicaScores, rows: IntArray) -> ReplicaScores:
    columns = {field.name: getattr(scores, field.name)[rows] for field in dataclasses.fields(scores)}
    return dataclasses.replace(scores, **columns)


def _left_out(shared: Shared, n: int) -> str | None:
    """Say how many structures do not enter, and how many of them lack a prediction."""
    if shared.n_all == n:
        return None
    lacking = [
        f"{count} without a prediction of {name}"
        for name, count in (("A", int(np.sum(~shared.a.ok))), ("B", int(np.sum(~shared.b.ok))))
        if count
    ]
    said = f" ({', '.join(lacking)})" if lacking else ""
    return f"{shared.n_all - n} of {shared.n_all} left out{said}"


def _cost_change(pair: Pair, definition: MetricDefinition[Any]) -> Change | Refusal:
    one, other = pair.one, pair.other
    if one is None or other is None or one.value is None or other.value is None:
        return Refusal("; ".join(pair.missing))
    if not definition.timed:
        return counted_change(one.value, other.value)
    if definition.name in ONCE:
        return single_change(one.value, other.value, "measured once in each run: the difference has no interval")
    return _time_change(definition.name, pair, (one, one.value), (other, other.value))


def _time_change(
    metric: str, pair: Pair, a: tuple[MetricRecord, float], b: tuple[MetricRecord, float]
) -> Change | Refusal:
    """Compare times: paired where both were measured in the same rounds, else not, but for ratios to a reference."""
    first, second = (_calls(run, pair.place) for run in (pair.a, pair.b))
    beside = same_rounds(first, second)
    if metric == RATIO and not beside:
        one, other = (Estimate(value, record.ci_low, record.ci_high) for record, value in (a, b))
        return independent_ratio(one, other, min(a[0].n, b[0].n))
    if not beside:
        return Refusal(f"measured in different rounds, or nothing tells; compare {RATIO}", missing=False)
    if metric == RATIO:  # the reference cancels
        difference = Estimate(b[1] - a[1], None, None)
        change = call_change("latency_p50", first, second)
        return dataclasses.replace(change, a=a[1], b=b[1], difference=difference)
    if metric in PAIRED:
        change = call_change(metric, first, second)
        return Refusal(str(change.reason)) if change.difference is None else change
    return single_change(a[1], b[1], "its calls have no partner in the other run: the difference has no interval")


def _calls(run: RunRecord, place: Place) -> Sequence[Call]:
    """Return the timed calls of a run on one split; none where these were not kept."""
    if run.directory is None:
        return ()
    directory = RunDirectory(run.directory)
    return read_calls(directory, place.dataset, place.split) if directory.timings.exists() else ()

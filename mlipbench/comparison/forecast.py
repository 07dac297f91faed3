"""What earlier runs say of a plan: how long it takes, and which differences it can find."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from mlipbench.comparison.changes import Pair, Place, measured_change
from mlipbench.metrics.paired import Change
from mlipbench.metrics.resampling import Bootstrap
from mlipbench.status import Role, Task

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mlipbench.comparison.collect import RunRecord
    from mlipbench.comparison.scores import ScoreReader
    from mlipbench.plan import Plan, PlannedSplit, RunPlan
    from mlipbench.store.records import MetricRecord

METRICS: Final = ("energy_mae", "forces_mae")
_PACE: Final = "atom_throughput"
_HOUR: Final = 3600.0
_PAIRS: Final = 6
"""Pairs of models that are looked at; differences between any two are about as easy to find."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a model was when its costs were measured.

    Attributes:
        atoms_per_second: At the batch size where that was most, the slowest of the splits of the run.
        run: Directory or name of the run.
    """

    atoms_per_second: float
    run: str

    def hours(self, n_atoms: int) -> float:
        """Return how long a device takes for so many atoms, each once."""
        return n_atoms / self.atoms_per_second / _HOUR


@dataclass(frozen=True, slots=True)
class Detectable:
    """Which difference in a metric a split can tell from chance.

    Attributes:
        dataset: Name of the dataset.
        split: Name of the split.
        metric: Name of the metric.
        least: Share of the metric's value, for the pair of models that are told apart most easily.
        most: The same for the pair that is told apart least easily.
        n_pairs: Pairs of models whose errors tell.
    """

    dataset: str
    split: str
    metric: str
    least: float
    most: float
    n_pairs: int


def pace_of(run: RunPlan, records: Sequence[RunRecord]) -> Pace | None:
    """Return how fast a model was in the newest run that measured it with these settings; None if there is none.

    Args:
        run: The run that is planned.
        records: Finished runs.
    """
    found: list[tuple[str, Pace]] = []
    for record in records:
        if record.manifest is None or record.model != run.model:
            continue
        here = (run.variant.precision, run.variant.device.partition(":")[0], dict(run.variant.settings), run.threads)
        variant = record.manifest.variant
        there = (variant.precision, variant.device.partition(":")[0], variant.settings, record.manifest.threads)
        rates = [one.value for one in record.metrics if one.metric == _PACE and one.value]
        if here == there and rates:
            found.append((record.manifest.started, Pace(min(rates), str(record.directory))))
    return max(found, key=lambda one: one[0])[1] if found else None


def detectable(plan: Plan, records: Sequence[RunRecord], scores: ScoreReader) -> Iterator[Detectable]:
    """Yield what the splits of a plan can find, as far as two earlier runs have predicted structures of them.

    The minimum detectable difference of two earlier runs (see `mlipbench.metrics.statistics.paired_difference`) is
    brought to the number of clusters of the planned structures, as its logarithm goes with 1 / √clusters.

    Args:
        plan: The plan.
        records: Finished runs.
        scores: Where their scores come from.

    Raises:
        ResultsError: A file of scores is damaged.
    """
    seen: set[tuple[str, str]] = set()
    for split in (split for run in plan.runs for split in run.splits):
        key = (split.dataset, split.split)
        if split.task is not Task.S2EF or split.role is not Role.EVALUATE or split.reason or key in seen:
            continue
        seen.add(key)
        clusters = len(np.unique(split.taken(plan.datasets[split.dataset].splits[split.split]).clusters))
        for metric in METRICS:
            place = Place(Task.S2EF.value, *key, metric)
            found = list(_shares(place, _known(place, split, records), scores, clusters))
            if found:
                yield Detectable(*key, metric, min(found), max(found), len(found))


def _known(place: Place, split: PlannedSplit, records: Sequence[RunRecord]) -> list[tuple[RunRecord, MetricRecord]]:
    """Return the runs that have a number there, of the same data, whichever part of it they took."""
    found = []
    for record in records:
        datasets = record.manifest.datasets if record.manifest is not None else []
        hashes = [one.splits.get(place.split) for one in datasets if one.name == place.dataset]
        numbers = [one for one in record.metrics if (one.task, one.dataset, one.split, one.metric) == tuple(place)]
        if split.content_hash in hashes and numbers and numbers[0].value:
            found.append((record, numbers[0]))
    return found


def _shares(
    place: Place, known: Sequence[tuple[RunRecord, MetricRecord]], scores: ScoreReader, clusters: int
) -> Iterator[float]:
    pairs = itertools.islice(itertools.combinations(known, 2), _PAIRS)
    for (a, one), (b, other) in pairs:
        if a.model == b.model or one.comparability_key != other.comparability_key:
            continue
        change = measured_change(Pair(place, a, b, one, other), scores, Bootstrap())
        if isinstance(change, Change) and change.detectable and change.a:
            reach = math.log1p(change.detectable / change.a) * math.sqrt(one.n_clusters / clusters)
            yield math.expm1(reach)

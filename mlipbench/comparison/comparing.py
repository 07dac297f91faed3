"""What changed from one run to another: each metric on the structures both have, and the structures that changed most.

Verdicts hold over all metrics and splits of one pair of runs at 5 % together (Holm); intervals are those of each metric
by itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from mlipbench.comparison.changes import Pair, Place, Refusal, measured_change
from mlipbench.comparison.differing import FieldDifference, differing
from mlipbench.comparison.largest import Largest, largest_changes
from mlipbench.datasets.entry import GAP
from mlipbench.metrics.blocks import LEVEL
from mlipbench.metrics.paired import Change, gap_change
from mlipbench.metrics.resampling import Bootstrap
from mlipbench.metrics.statistics import MIN_CLUSTERS, holm
from mlipbench.metrics.values import Direction
from mlipbench.status import Task, Training

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlipbench.comparison.collect import RunRecord
    from mlipbench.comparison.scores import ScoreReader

_BOOTSTRAP: Final = Bootstrap()


class Verdict(StrEnum):
    """What can be said of one metric of B, compared with A's."""

    BETTER = "better"
    WORSE = "worse"
    DIFFERENT = "different"  # of a metric that improves neither way
    EQUAL = "equal"  # counted, and the same
    NOT_DISTINGUISHABLE = "not distinguishable"
    TOO_FEW_CLUSTERS = "too few clusters"
    NO_INTERVAL = "no interval"
    NOT_COMPARABLE = "not comparable"
    MISSING = "missing"


COMPARED: Final = frozenset(Verdict) - {Verdict.NOT_COMPARABLE, Verdict.MISSING}
"""Verdicts on numbers that were set against each other."""


@dataclass(frozen=True, slots=True)
class ComparedMetric:
    """One metric on one split.

    Attributes:
        place: Task, dataset, split and metric.
        unit: Unit of values, difference and its interval.
        direction: Which way it improves.
        verdict: What can be said, corrected for the family.
        change: The numbers; None where they were not set against each other.
        p_adjusted: The p-value of no difference, corrected for the family; None where it cannot be judged.
        differs: Parts of the comparability key that differ.
        notes: Reasons, and what must be known.
    """

    place: Place
    unit: str
    direction: Direction
    verdict: Verdict
    change: Change | None = None
    p_adjusted: float | None = None
    differs: tuple[FieldDifference, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Comparison:
    """B compared with A.

    Attributes:
        a: The run that is compared with.
        b: The run that is compared.
        metrics: One by one, in the order of A's, then what B alone has.
        family: Number of metrics and splits that the correction of the verdicts is for.
        largest: The structures that changed most.
    """

    a: RunRecord
    b: RunRecord
    metrics: tuple[ComparedMetric, ...]
    family: int
    largest: tuple[Largest, ...]

    @property
    def compared(self) -> bool:
        """Whether any two numbers were set against each other."""
        return any(row.verdict in COMPARED for row in self.metrics)


def compare(a: RunRecord, b: RunRecord, scores: ScoreReader, worst: int = 5) -> Comparison:
    """Compare a run with another one, metric by metric.

    Args:
        a: The run that is compared with.
        b: The run that is compared.
        scores: Where scores per structure come from.
        worst: Structures to name for each kind of error of each split.

    Raises:
        ResultsError: A file of scores or timings is damaged.
    """
    pairs = _pairs(a, b)
    differences = {pair.place: _differing(pair) for pair in pairs}
    fit = [pair for pair in pairs if not pair.missing and not differences[pair.place]]
    # The smallest p-value that resampling can give must reach below Holm's first step.
    resamples = max(_BOOTSTRAP.resamples, math.ceil(2 * len(fit) / (1.0 - LEVEL)))
    bootstrap = replace(_BOOTSTRAP, resamples=resamples)
    changes: dict[Place, Change | Refusal] = {}
    for pair in sorted(fit, key=lambda pair: pair.place.split == GAP):  # gaps follow from the splits
        gap = pair.place.split == GAP
        changes[pair.place] = _gap(pair, changes) if gap else measured_change(pair, scores, bootstrap)
    tested = {
        place: change.p for place, change in changes.items() if isinstance(change, Change) and change.p is not None
    }
    adjusted = dict(zip(tested, holm(list(tested.values())).tolist(), strict=True))
    rows = tuple(
        _row(pair, differences[pair.place], changes.get(pair.place), adjusted.get(pair.place)) for pair in pairs
    )
    scored = [pair for pair in fit if isinstance(changes[pair.place], Change)]
    named = tuple(largest_changes(scored, scores, worst)) if worst else ()
    return Comparison(a, b, rows, len(tested), named)


def _pairs(a: RunRecord, b: RunRecord) -> list[Pair]:
    numbers = [{Place(one.task, one.dataset, one.split, one.metric): one for one in run.metrics} for run in (a, b)]
    places = dict.fromkeys([*numbers[0], *numbers[1]])
    return [Pair(place, a, b, numbers[0].get(place), numbers[1].get(place)) for place in places]


def _differing(pair: Pair) -> tuple[FieldDifference, ...]:
    if pair.one is None or pair.other is None or pair.a.manifest is None or pair.b.manifest is None:
        return ()
    return differing((pair.a.manifest, pair.one), (pair.b.manifest, pair.other))


def _gap(pair: Pair, changes: Mapping[Place, Change | Refusal]) -> Change | Refusal:
    """Return how the gap between splits changed, from the changes on these."""
    datasets = pair.a.manifest.datasets if pair.a.manifest else []
    asked = next((one.entry.get("gap") for one in datasets if one.name == pair.place.dataset), None)
    if not asked:
        return Refusal("the manifest does not say which splits the gap is of")
    parts = []
    for split in (asked.get("base"), *asked.get("others", ())):
        change = changes.get(pair.place._replace(split=str(split)))
        if not isinstance(change, Change):
            return Refusal(f"nothing could be compared on {split}")
        parts.append(change)
    return gap_change(parts[0], parts[1:])


def _row(
    pair: Pair, differs: tuple[FieldDifference, ...], change: Change | Refusal | None, adjusted: float | None
) -> ComparedMetric:
    shown = pair.one or pair.other
    if shown is None:
        raise ValueError("a pair without a number")
    row = ComparedMetric(pair.place, shown.unit, shown.direction, Verdict.MISSING, notes=pair.missing)
    if pair.missing:
        return row
    if differs:
        return replace(row, verdict=Verdict.NOT_COMPARABLE, differs=differs, notes=tuple(map(str, differs)))
    if not isinstance(change, Change):
        missing = change is None or change.missing
        verdict = Verdict.MISSING if missing else Verdict.NOT_COMPARABLE
        return replace(row, verdict=verdict, notes=(change.reason,) if change else ())
    verdict = _verdict(change, adjusted, pair.place.task, shown.direction)
    notes = tuple(filter(None, (change.reason, *_trained(pair))))
    return replace(row, verdict=verdict, change=change, p_adjusted=adjusted, notes=notes)


def _verdict(change: Change, adjusted: float | None, task: str, direction: Direction) -> Verdict:
    tested = _tested(change)
    if change.exact and tested == 0.0:
        return Verdict.EQUAL
    if adjusted is None and not change.exact:
        few = task not in {Task.MD, Task.EFFICIENCY} and change.n_clusters < MIN_CLUSTERS
        return Verdict.TOO_FEW_CLUSTERS if few else Verdict.NO_INTERVAL
    if adjusted is not None and adjusted > 1.0 - LEVEL:
        return Verdict.NOT_DISTINGUISHABLE
    if direction is Direction.NEITHER:
        return Verdict.DIFFERENT
    return Verdict.BETTER if (tested > 0.0) == (direction is Direction.HIGHER) else Verdict.WORSE


def _tested(change: Change) -> float:
    """Return what was tested against 0: of times measured in rounds the ratio, of all else the difference."""
    difference, relative = change.difference, change.relative
    if relative is not None and (difference is None or (difference.low is None and relative.low is not None)):
        return relative.value
    return difference.value if difference is not None else 0.0


def _trained(pair: Pair) -> tuple[str, ...]:
    """Say where the two models stand in unlike relations to the data."""
    if pair.one is None or pair.other is None:
        return ()
    relations = [record.relation for record in (pair.one, pair.other)]
    if relations[0] is relations[1] is not Training.CONTAMINATED:
        return ()
    return (f"training: A {relations[0].value}, B {relations[1].value}",)

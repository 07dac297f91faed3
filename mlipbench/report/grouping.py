"""Which numbers stand in one table, and in one column of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from mlipbench.metrics.catalogue import TASK_METRICS
from mlipbench.status import Task

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from mlipbench.comparison.collect import RunRecord
    from mlipbench.comparison.published import Reference
    from mlipbench.store.records import MetricRecord


class ColumnKey(NamedTuple):
    """What the numbers of one column have in common.

    Attributes:
        task: Name of the task.
        split: Name of the split.
        metric: Name of the metric.
        key: Comparability key; empty where no run has a number.
    """

    task: str
    split: str
    metric: str
    key: str


_ACCURACY: Final = frozenset({"energy_mae", "forces_mae"})
"""Metrics of the task s2ef that stand beside costs."""


@dataclass(frozen=True, slots=True)
class Group:
    """Runs whose numbers stand in one table.

    Attributes:
        task: Name of the task.
        dataset: Name of the dataset.
        part: Number of the group among those of the same task and dataset, from 1; 0 where it is the only one.
        runs: The runs.
        columns: What they have numbers for.
        reference: Where published numbers stand; None where they are measured.
    """

    task: str
    dataset: str
    part: int
    runs: tuple[RunRecord, ...]
    columns: tuple[ColumnKey, ...]
    reference: Reference | None = None

    def cells(self, run: RunRecord) -> tuple[MetricRecord | None, ...]:
        """Return the number of a run in every column, None where it has none there.

        What has no value stands in the first column of its split and metric.
        """
        records = {(record.task, record.split, record.metric): record for record in _of(run, self.task, self.dataset)}
        seen: set[tuple[str, str, str]] = set()
        cells = []
        for *place, key in self.columns:
            task, split, metric = place
            record = records.get((task, split, metric))
            first = (task, split, metric) not in seen
            seen.add((task, split, metric))
            fits = record is not None and (first if record.value is None else record.comparability_key == key)
            cells.append(record if fits else None)
        return tuple(cells)


def _of(run: RunRecord, task: str, dataset: str) -> Iterator[MetricRecord]:
    """Yield the numbers of a run that stand in the tables of a task on a dataset.

    Beside what a model costs on a split stands how accurate it is there with the same settings.
    """
    here = [record for record in run.metrics if record.dataset == dataset]
    own = [record for record in here if record.task == task]
    if task == Task.EFFICIENCY:
        measured = {record.split for record in own}
        beside = (record for record in here if record.task == Task.S2EF and record.metric in _ACCURACY)
        yield from (record for record in beside if record.split in measured)
    yield from own


def groups(records: Sequence[RunRecord]) -> tuple[Group, ...]:
    """Divide runs into tables.

    Runs that share a comparability key in any column stand in one table; where their keys differ in a column, that
    column is divided. Runs that share none stand in tables of their own, and so do the rows of each published table,
    below the measured ones.

    Args:
        records: Runs in the order wanted.
    """
    places: dict[tuple[str, str], list[RunRecord]] = {}
    for run in records:
        for place in dict.fromkeys((record.task, record.dataset) for record in run.metrics):
            places.setdefault(place, []).append(run)
    found = []
    for (task, dataset), runs in places.items():
        parts = _parts(task, dataset, [run for run in runs if run.reference is None])
        for number, part in enumerate(parts, start=1):
            columns = _columns(task, dataset, part)
            found.append(Group(task, dataset, number if len(parts) > 1 else 0, tuple(part), columns))
        found.extend(_published(task, dataset, runs))
    return tuple(found)


def _published(task: str, dataset: str, runs: Sequence[RunRecord]) -> Iterator[Group]:
    tables: dict[str, list[RunRecord]] = {}
    for run in runs:
        if run.reference is not None:
            tables.setdefault(run.reference.key, []).append(run)
    for part in tables.values():
        yield Group(task, dataset, 0, tuple(part), _columns(task, dataset, part), part[0].reference)


def _parts(task: str, dataset: str, runs: Sequence[RunRecord]) -> list[list[RunRecord]]:
    """Return the runs divided into those connected by equal keys, the largest part first."""
    parts: list[tuple[set[ColumnKey], list[RunRecord]]] = []
    empty = []
    for run in runs:
        keys = set(_keys(task, dataset, [run], valued=True))
        if not keys:
            empty.append(run)
            continue
        touching = [part for part in parts if part[0] & keys]
        parts = [part for part in parts if not part[0] & keys]
        merged = {key for part in touching for key in part[0]} | keys
        parts.append((merged, [*(member for part in touching for member in part[1]), run]))
    parts.sort(key=lambda part: -len(part[1]))
    for run in empty:
        keys = set(_keys(task, dataset, [run], valued=False))
        home = next((part for part in parts if part[0] & keys), parts[0] if parts else None)
        if home is None:
            parts.append((keys, [run]))
        else:
            home[1].append(run)
    return [members for _, members in parts]


def _columns(task: str, dataset: str, runs: Sequence[RunRecord]) -> tuple[ColumnKey, ...]:
    """Return the columns: splits in the order of the runs, then metrics in the order of the task, then keys."""
    valued = list(dict.fromkeys(_keys(task, dataset, runs, valued=True)))
    have = {key[:3] for key in valued}
    every = list(dict.fromkeys(_keys(task, dataset, runs, valued=False)))
    bare = dict.fromkeys(key._replace(key="") for key in every if key[:3] not in have)
    splits = list(dict.fromkeys(key.split for key in every))
    known = TASK_METRICS[Task(task)].definitions if task in set(Task) else {}
    others = list(dict.fromkeys(key.metric for key in every if key.metric not in known))
    metrics = [*others, *known] if task == Task.EFFICIENCY else [*known, *others]
    chosen = [*valued, *bare]
    return tuple(sorted(chosen, key=lambda key: (splits.index(key.split), metrics.index(key.metric))))


def _keys(task: str, dataset: str, runs: Iterable[RunRecord], *, valued: bool) -> Iterator[ColumnKey]:
    """Yield the keys of all numbers, or also of those without a value."""
    for run in runs:
        for record in _of(run, task, dataset):
            if not (valued and record.value is None):
                yield ColumnKey(record.task, record.split, record.metric, record.comparability_key)

"""The structures whose errors changed most from one run to another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mlipbench.metrics.paired import per_structure
from mlipbench.metrics.values import Direction, Kind, Quantity

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mlipbench.comparison.changes import Pair, Shared
    from mlipbench.comparison.scores import ScoreReader
    from mlipbench.metrics.definition import MetricDefinition

_BESIDE: Final = frozenset({Quantity.TAGS, Quantity.CLUSTERS})


@dataclass(frozen=True, slots=True)
class ChangedStructure:
    """A structure, or a replica, and its own errors.

    Attributes:
        id: What it is called.
        cluster: The cluster it belongs to.
        a: Its error in A.
        b: Its error in B.
    """

    id: str
    cluster: int
    a: float
    b: float

    @property
    def change(self) -> float:
        """B's error minus A's."""
        return self.b - self.a


@dataclass(frozen=True, slots=True)
class Largest:
    """The structures of one split that changed most in one kind of error.

    Attributes:
        task: Name of the task.
        dataset: Name of the dataset.
        split: Name of the split.
        family: What the errors are of, such as ``forces``.
        metric: The metric whose value for each structure by itself is meant.
        unit: Its unit.
        structures: The structures, the largest change first.
    """

    task: str
    dataset: str
    split: str
    family: str
    metric: str
    unit: str
    structures: tuple[ChangedStructure, ...]


def largest_changes(pairs: Sequence[Pair], scores: ScoreReader, most: int) -> Iterator[Largest]:
    """Yield the structures that changed most, for the first metric of each family of each split.

    A family is what a metric needs of the labels, or what a metric of simulations is about. Shares and what depends on
    the machine have no such structures.

    Args:
        pairs: Numbers that were compared.
        scores: Where scores come from.
        most: Structures of each family.

    Raises:
        ResultsError: A file of scores is damaged.
    """
    seen: set[tuple[str, str, str, str]] = set()
    for pair in pairs:
        definition = pair.definition
        family = "" if definition is None else _family(definition)
        key = (*pair.place[:3], family)
        if definition is None or not family or key in seen:
            continue
        shared = pair.shared(scores)
        if isinstance(shared, str):
            continue
        seen.add(key)
        if found := _found(definition, shared, most):
            yield Largest(*pair.place[:3], family, definition.name, definition.unit, found)


def _family(definition: MetricDefinition[Any]) -> str:
    """Return what a metric is about, empty where structures by themselves have no error of it."""
    single = definition.scale.kind in {Kind.POSITIVE, Kind.REAL} and definition.direction is not Direction.NEITHER
    if definition.timed or not single:
        return ""
    return definition.about or " and ".join(sorted(definition.needs - _BESIDE))


def _found(definition: MetricDefinition[Any], shared: Shared, most: int) -> tuple[ChangedStructure, ...]:
    first, second = (
        per_structure(own.sums(definition), definition.scale)[rows]
        for own, rows in ((shared.a, shared.rows_a), (shared.b, shared.rows_b))
    )
    changes = np.abs(second - first)
    known = np.flatnonzero(np.isfinite(changes) & (changes > 0))
    chosen = known[np.argsort(-changes[known], kind="stable")][:most]
    names = shared.a.names(shared.rows_a[chosen])
    clusters = shared.a.clusters[shared.rows_a[chosen]]
    return tuple(
        ChangedStructure(name, int(cluster), float(first[place]), float(second[place]))
        for name, cluster, place in zip(names, clusters, chosen, strict=True)
    )

"""What a gate finds, one finding for each thing that it looked at."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlipbench.comparison.changes import Place
    from mlipbench.comparison.comparing import ComparedMetric


class State(StrEnum):
    """What became of one thing that a gate looked at."""

    REGRESSION = "regression"
    INCOMPLETE = "incomplete"  # the run that would tell did not finish
    WARNING = "warning"  # worse, but of what only warns
    NOT_JUDGED = "not judged"  # perhaps worse, and nothing tells
    NOT_COMPARABLE = "not comparable"
    IMPROVED = "improved"
    UNCHANGED = "unchanged"  # no change, none that can be told from noise, or one that is tolerated


JUDGED = frozenset({State.REGRESSION, State.WARNING, State.IMPROVED, State.UNCHANGED})
"""States of things that were measured and compared."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a gate looked at.

    Attributes:
        state: What became of it.
        run: The run of the head that it is about, by model, variant and seed.
        about: What it is about: a metric, or a fact such as ``failed structures``.
        said: What was found, in words.
        place: Task, dataset, split and metric, where it is about a metric or a split; the metric of a split is empty.
        row: The comparison, where it is about a metric.
        tolerance: The largest change for the worse that is tolerated, in the metric's unit.
        measured: Whether it rests on numbers of both sides.
    """

    state: State
    run: str
    about: str
    said: str
    place: Place | None = None
    row: ComparedMetric | None = None
    tolerance: float | None = None
    measured: bool = False

"""What a gate finds, one finding for each thing that it looked at."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlipbench.comparison.changes import Place
    from mlipbench.comparison.comparing import ComparedMetric, Comparison


class State(StrEnum):
    """What became of one thing that a gate looked at."""

    REGRESSION = "regression"
    INCOMPLETE = "incomplete"  # the run that would tell did not finish
    WARNING = "warning"  # worse, but of what only warns
    NOT_JUDGED = "not judged"  # perhaps worse, and nothing tells
    NOT_COMPARABLE = "not comparable"
    IMPROVED = "improved"
    UNCHANGED = "unchanged"  # no change, none that can be told from noise, or one that is tolerated


def run_title(model: str, variant: str, seed: int | None) -> str:
    """Return what a run is called: its model, the variant where it has a name, and the seed where it is not 0."""
    name = "" if variant in {"default", ""} else f" {variant}"
    return f"{model}{name}{f' seed {seed}' if seed else ''}"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a gate looked at.

    Attributes:
        state: What became of it.
        run: The run of the head that it is about, by model, variant and seed.
        about: What it is about: a metric, or a fact such as ``failed structures``.
        said: What was found, in words.
        place: Task, dataset, split and metric, where it is about a metric or a split; the metric of a split is empty.
        row: What was compared, where it is about a metric.
        comparison: The comparison that `row` is of.
        tolerance: The largest change for the worse that is tolerated, in the metric's unit.
        measured: Whether it rests on numbers of both sides.
    """

    state: State
    run: str
    about: str
    said: str
    place: Place | None = None
    row: ComparedMetric | None = None
    comparison: Comparison | None = None
    tolerance: float | None = None
    measured: bool = False

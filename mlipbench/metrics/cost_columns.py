"""What metrics of costs are made from, and of."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import numpy as np

from mlipbench.metrics.definition import Estimate, MetricDefinition
from mlipbench.metrics.values import Direction, Kind, Scale

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mlipbench.cost import Call, CostFacts, ParityFacts, Stage

EXACT: Final = "counted, not estimated"


class Family(StrEnum):
    """What a metric is about; metrics of one family stand beside each other."""

    SIZE = "Size"
    OPERATIONS = "Operations"
    LATENCY = "One structure"
    BATCHES = "Batches"
    MEMORY = "Memory"
    TRAINING = "Training"
    PARITY = "Parity"


@dataclass(frozen=True, slots=True, eq=False)
class Costs:
    """What is known of the cost of one model on one split.

    Attributes:
        facts: What the worker counted, or why it could not.
        calls: What it timed.
        step: Seconds of a step of training.
        samples: Structures of a second of training.
        cutoff: Å, within which the model looks for neighbours, or None.
        reference: The model that times are divided by; None where it was not measured beside this one.
        limit: Why no larger batch was measured, or None.
        parity: How it compares with another variant of the same model; None where nothing was to be compared.
    """

    facts: CostFacts | str
    calls: Sequence[Call]
    step: Estimate
    samples: Estimate
    cutoff: float | None
    reference: str | None
    limit: str | None = None
    parity: ParityFacts | None = None

    def of(self, stage: Stage) -> list[Call]:
        """Return the calls of one stage."""
        return [call for call in self.calls if call.stage is stage]


def nothing(reason: str | None) -> Estimate:
    """Return that there is no number, and why."""
    return Estimate(None, None, None, 0, reason or "it was not measured")


def counted(value: float | None, n: int, reason: str | None) -> Estimate:
    """Return a number that needs no interval, or why there is none."""
    return nothing(reason) if value is None else Estimate(float(value), None, None, n, EXACT)


def cost_metric(
    about: Family, name: str, unit: str, title: str, formula: str, estimate: Callable[[Costs], Estimate], **more: bool
) -> MetricDefinition[Costs]:
    """Return the definition of a number that is the better the lower it is, unless `more` says otherwise."""
    rises, neither = more.get("rises", False), more.get("neither", False)
    return MetricDefinition(
        name=name,
        unit=unit,
        direction=Direction.NEITHER if neither else Direction.HIGHER if rises else Direction.LOWER,
        title=title,
        formula=formula,
        numerator=lambda costs: np.zeros(len(costs.calls)),
        denominator=lambda costs: np.zeros(len(costs.calls)),
        scale=Scale(Kind.FRACTION if more.get("share") else Kind.COUNT if more.get("whole") else Kind.POSITIVE),
        about=about,
        estimate=estimate,
        timed=about not in {Family.SIZE, Family.OPERATIONS},
    )

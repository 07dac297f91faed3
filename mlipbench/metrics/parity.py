"""Do variants of one model predict the same, and how much faster is one than another?"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import numpy as np

from mlipbench.cost import Stage
from mlipbench.metrics.cost_columns import Costs, Family, cost_metric, nothing
from mlipbench.metrics.definition import Estimate
from mlipbench.metrics.timings import paired_ratio

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mlipbench.cost import ParityFacts
    from mlipbench.metrics.definition import MetricDefinition

_NOT_COMPARED: Final = "nothing was compared: one variant of the model was measured, or the suite gives no `parity`"


def _differs(number: Callable[[ParityFacts], float | None]) -> Callable[[Costs], Estimate]:
    def estimate(costs: Costs) -> Estimate:
        facts = costs.parity
        if facts is None:
            return nothing(_NOT_COMPARED)
        value = number(facts)
        if value is None:
            return nothing(facts.reason)
        return Estimate(value, None, None, facts.n_structures, f"largest difference from {facts.against}")

    return estimate


def _conservation(costs: Costs) -> Estimate:
    facts = costs.parity
    if facts is None:
        return nothing(_NOT_COMPARED)
    if facts.conservation is None:
        return nothing("the model predicts no structure that it was to be tried on")
    how = f"{facts.n_conservation} structures, central differences of {facts.step:g} Å"
    return Estimate(facts.conservation, None, None, facts.n_conservation, how)


def _speed_up(costs: Costs) -> Estimate:
    facts = costs.parity
    if facts is None:
        return nothing(_NOT_COMPARED)
    if facts.baseline is None:
        return nothing("the suite lists no variant of the model without settings")
    calls = [call for call in costs.of(Stage.LATENCY) if call.baseline_seconds is not None]
    if not calls:
        return nothing(f"the variant {facts.baseline} was not measured in the same rounds")
    beside = np.asarray([call.baseline_seconds for call in calls], dtype=np.float64)
    own = np.asarray([call.seconds for call in calls])
    found = paired_ratio(beside, own, np.asarray([call.round for call in calls], dtype=np.int64))
    how = "; ".join(filter(None, [f"over the variant {facts.baseline}", found.reason]))
    return Estimate(found.value, found.low, found.high, found.n, how)


PARITY_METRICS: Final[Mapping[str, MetricDefinition[Costs]]] = MappingProxyType(
    {
        one.name: one
        for one in (
            cost_metric(
                Family.PARITY,
                "parity_energy",
                "eV/atom",
                "ΔE per atom",
                "largest difference of a structure's energy from that of the reference variant, per atom",
                _differs(lambda facts: facts.energy),
                neither=True,
            ),
            cost_metric(
                Family.PARITY,
                "parity_forces",
                "eV/Å",
                "ΔF",
                "largest length of the difference of the force on an atom from that of the reference variant",
                _differs(lambda facts: facts.forces),
                neither=True,
            ),
            cost_metric(
                Family.PARITY,
                "conservation_error",
                "eV/Å",
                "F·d + dE/dd",
                "its root mean square over structures, d being a unit vector of all coordinates drawn at random and "
                "dE/dd a central difference; zero where forces are the negative gradient, and for forces with a head "
                "of their own about what a component of them is off the gradient",
                _conservation,
            ),
            cost_metric(
                Family.PARITY,
                "speed_up",
                "1",
                "Speed-up",
                "Hodges-Lehmann estimate of the ratio of the latency of the reference variant over this one's in the "
                "same rounds with the same structures",
                _speed_up,
                rises=True,
            ),
        )
    }
)
"""The metrics that compare variants, by name, in the order of tables."""

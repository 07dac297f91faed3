"""What a model costs: numbers from what was counted and timed beside it.

Counts have no interval. Times are those of `mlipbench.metrics.timings`: percentiles, ratios and lines over calls that
were made in rounds with other models.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from mlipbench.cost import CostFacts, OperatorClass, Stage
from mlipbench.metrics.cost_columns import EXACT, counted, nothing
from mlipbench.metrics.definition import Estimate
from mlipbench.metrics.timings import geometric_mean, line, paired_ratio, percentile

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mlipbench.cost import Call, CallCost
    from mlipbench.metrics.cost_columns import Costs
    from mlipbench.typing import FloatArray

    Estimator = Callable[[Costs], Estimate]

MILLI: Final = 1e3
_GIGA: Final = 1e9
_MIB: Final = 2**20
_NAMED: Final = 3


def scaled(found: Estimate, factor: float) -> Estimate:
    """Return an estimate in another unit."""
    value, low, high = (None if one is None else one * factor for one in (found.value, found.low, found.high))
    return Estimate(value, low, high, found.n, found.reason)


def number_of_parameters(field: str) -> Estimator:
    """Return what reads a number of parameters, a field of `mlipbench.cost.ParameterCount`."""

    def estimate(costs: Costs) -> Estimate:
        if isinstance(costs.facts, str):
            return nothing(costs.facts)
        return counted(getattr(costs.facts.parameters, field), 1, costs.facts.parameters.reason)

    return estimate


def per(costs: Costs, number: Callable[[CostFacts], float | str | None], unit: str) -> Estimate:
    """Return a number of the whole batch that was counted, per structure, atom or edge."""
    facts = costs.facts
    if isinstance(facts, str):
        return nothing(facts)
    found, count = number(facts), getattr(facts, f"n_{unit}")
    if isinstance(found, str) or found is None:
        return nothing(found)
    if not count:
        return nothing(f"the model tells no number of {unit}")
    return counted(found / count, facts.n_structures, None)


def dispatched_operations(call: CallCost | None) -> float | str:
    """Return 10⁹ operations that torch dispatched in a call on the whole batch, or why there is no figure."""
    if call is None:
        return "forces were not counted"
    flops = call.dispatched.flops
    return flops / _GIGA if flops is not None else str(call.dispatched.reason)


def thop_operations(call: CallCost | None) -> float | str:
    """Return 10⁹ operations that thop saw in a call on the whole batch, or why there is no figure."""
    if call is None:
        return "forces were not counted"
    return call.thop.flops / _GIGA if call.thop.flops is not None else str(call.thop.reason)


def counted_share(costs: Costs) -> Estimate:
    """Return the share of operator calls that were counted, of those that compute."""
    if isinstance(costs.facts, str) or costs.facts.forces is None:
        return nothing(costs.facts if isinstance(costs.facts, str) else "forces were not counted")
    dispatched = costs.facts.forces.dispatched
    found = counted(dispatched.call_share, costs.facts.n_structures, dispatched.unavailable)
    return _leaving_out(found, [operator.name for operator in dispatched.largest(OperatorClass.ARITHMETIC)])


def seen_by_thop(costs: Costs) -> Estimate:
    """Return the share of calls of products that thop saw."""
    if isinstance(costs.facts, str) or costs.facts.forces is None:
        return nothing(costs.facts if isinstance(costs.facts, str) else "forces were not counted")
    thop = costs.facts.forces.thop
    return _leaving_out(counted(thop.covered, costs.facts.n_structures, thop.reason), list(thop.unseen))


def _leaving_out(found: Estimate, names: Sequence[str]) -> Estimate:
    """Name the first of what a counter left out."""
    if found.value is None or not names:
        return found
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return replace(found, reason=f"{EXACT}; left out: {', '.join(names[:_NAMED])}{more}")


def _seconds(calls: Sequence[Call]) -> FloatArray:
    return np.asarray([call.seconds for call in calls])


def percentile_of(share: float, stage: Stage = Stage.LATENCY, field: str = "seconds") -> Estimator:
    """Return what takes a percentile of a time of the calls of a stage, a field of `Call`, ms."""

    def estimate(costs: Costs) -> Estimate:
        calls = costs.of(stage)
        rounds = np.asarray([call.round for call in calls], dtype=np.int64)
        return scaled(percentile(np.asarray([getattr(call, field) for call in calls]), rounds, share), MILLI)

    return estimate


def ratio_to_reference(costs: Costs) -> Estimate:
    """Return how many times longer calls with one structure take than the reference's."""
    if costs.reference is None:
        return nothing("the reference model was not measured in the same rounds")
    calls = costs.of(Stage.LATENCY)
    beside = np.asarray([np.nan if call.reference_seconds is None else call.reference_seconds for call in calls])
    return paired_ratio(_seconds(calls), beside, np.asarray([call.round for call in calls], dtype=np.int64))


def first_call(costs: Costs) -> Estimate:
    """Return the time of the first call of all without what went into torch's compiler, ms."""
    calls = costs.of(Stage.COLD)
    if not calls:
        return nothing(None)
    return _once(calls[0].seconds - calls[0].compile_seconds)


def compiling(costs: Costs) -> Estimate:
    """Return the time that the first call of all took in torch's compiler, ms."""
    calls = costs.of(Stage.COLD)
    if not calls:
        return nothing(None)
    return _once(calls[0].compile_seconds) if calls[0].compile_seconds else nothing("nothing was compiled")


def _once(seconds: float) -> Estimate:
    return Estimate(seconds * MILLI, None, None, 1, "happens once, so that it has no interval")


def _best_batch(costs: Costs) -> list[Call]:
    """Return the calls of the size of batch with the most structures in a second."""
    calls = costs.of(Stage.THROUGHPUT)
    sizes = sorted({call.n_structures for call in calls})
    rates = {
        size: size / float(np.median([call.seconds for call in calls if call.n_structures == size])) for size in sizes
    }
    best = max(rates, key=lambda size: rates[size], default=0)
    return [call for call in calls if call.n_structures == best]


def best_rate(unit: str) -> Estimator:
    """Return what takes structures or atoms (a field of `Call`) per second, at the fastest size of batch."""

    def estimate(costs: Costs) -> Estimate:
        calls = _best_batch(costs)
        if not calls:
            return nothing(costs.limit)
        rates = np.asarray([getattr(call, unit) / call.seconds for call in calls])
        said = [f"batches of {calls[0].n_structures}", f"nothing larger: {costs.limit}" if costs.limit else None]
        found = geometric_mean(rates)
        return replace(found, reason="; ".join(filter(None, [*said, found.reason])))

    return estimate


def line_through_batches(field: str) -> Estimator:
    """Return what takes overhead or slope, a field of `mlipbench.metrics.timings.Line`, of all batches, ms."""

    def estimate(costs: Costs) -> Estimate:
        calls = costs.of(Stage.THROUGHPUT)
        atoms = np.asarray([call.n_atoms for call in calls], dtype=np.int64)
        found: Estimate = getattr(line(atoms, _seconds(calls)), field)
        return scaled(found, MILLI)

    return estimate


def peak(field: str) -> Estimator:
    """Return what takes the largest of a kind of peak, a field of `Call`, MiB."""

    def estimate(costs: Costs) -> Estimate:
        peaks = [getattr(call, field) for call in costs.of(Stage.THROUGHPUT)]
        known = [peak for peak in peaks if peak is not None]
        if not known:
            return nothing("the allocator of a processor keeps no count" if peaks else costs.limit)
        largest = max(call.n_structures for call in costs.of(Stage.THROUGHPUT))
        return Estimate(max(known) / _MIB, None, None, len(known), f"the most, of batches up to {largest}")

    return estimate


def declared_cutoff(costs: Costs) -> Estimate:
    """Return the cutoff, Å."""
    return counted(costs.cutoff, 1, "the model's card names no cutoff")

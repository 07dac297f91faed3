"""What a model costs: metrics over what was counted and timed beside it.

Counts have no interval. Times are those of `mlipbench.metrics.timings`: percentiles, ratios and lines over calls that
were made in rounds with other models.
"""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import numpy as np

from mlipbench.cost import CostFacts, Stage
from mlipbench.metrics.cost_columns import Family, cost_metric, counted, nothing
from mlipbench.metrics.definition import Estimate
from mlipbench.metrics.timings import geometric_mean, line, paired_ratio, percentile

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mlipbench.cost import Call, CallCost
    from mlipbench.metrics.cost_columns import Costs
    from mlipbench.metrics.definition import MetricDefinition
    from mlipbench.typing import FloatArray

    Estimator = Callable[["Costs"], Estimate]

_MILLI: Final = 1e3
_GIGA: Final = 1e9
_MIB: Final = 2**20


def _scaled(found: Estimate, factor: float) -> Estimate:
    value, low, high = (None if one is None else one * factor for one in (found.value, found.low, found.high))
    return Estimate(value, low, high, found.n, found.reason)


def _parameters(field: str) -> Estimator:
    def estimate(costs: Costs) -> Estimate:
        if isinstance(costs.facts, str):
            return nothing(costs.facts)
        return counted(getattr(costs.facts.parameters, field), 1, costs.facts.parameters.reason)

    return estimate


def _per(costs: Costs, number: Callable[[CostFacts], float | str | None], unit: str) -> Estimate:
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


def _dispatched(call: CallCost | None) -> float | str:
    if call is None:
        return "forces were not counted"
    flops = call.dispatched.flops
    return flops / _GIGA if flops is not None else str(call.dispatched.reason)


def _thop(call: CallCost | None) -> float | str:
    if call is None:
        return "forces were not counted"
    return call.thop.flops / _GIGA if call.thop.flops is not None else str(call.thop.reason)


def _share(costs: Costs) -> Estimate:
    if isinstance(costs.facts, str) or costs.facts.forces is None:
        return nothing(costs.facts if isinstance(costs.facts, str) else "forces were not counted")
    dispatched = costs.facts.forces.dispatched
    return counted(dispatched.call_share, costs.facts.n_structures, dispatched.unavailable)


def _seconds(calls: Sequence[Call]) -> FloatArray:
    return np.asarray([call.seconds for call in calls])


def _percentile(share: float, stage: Stage = Stage.LATENCY) -> Estimator:
    def estimate(costs: Costs) -> Estimate:
        calls = costs.of(stage)
        rounds = np.asarray([call.round for call in calls], dtype=np.int64)
        return _scaled(percentile(_seconds(calls), rounds, share), _MILLI)

    return estimate


def _half(field: str) -> Estimator:
    def estimate(costs: Costs) -> Estimate:
        calls = costs.of(Stage.LATENCY)
        rounds = np.asarray([call.round for call in calls], dtype=np.int64)
        return _scaled(percentile(np.asarray([getattr(call, field) for call in calls]), rounds, 0.5), _MILLI)

    return estimate


def _ratio(costs: Costs) -> Estimate:
    if costs.reference is None:
        return nothing("the reference model was not measured in the same rounds")
    calls = costs.of(Stage.LATENCY)
    beside = np.asarray([np.nan if call.reference_seconds is None else call.reference_seconds for call in calls])
    return paired_ratio(_seconds(calls), beside, np.asarray([call.round for call in calls], dtype=np.int64))


def _cold(costs: Costs) -> Estimate:
    calls = costs.of(Stage.COLD)
    if not calls:
        return nothing(None)
    return Estimate(calls[0].seconds, None, None, 1, "happens once, so that it has no interval")


def _best_batch(costs: Costs) -> list[Call]:
    """Return the calls of the size of batch with the most structures in a second."""
    calls = costs.of(Stage.THROUGHPUT)
    sizes = sorted({call.n_structures for call in calls})
    rates = {
        size: size / float(np.median([call.seconds for call in calls if call.n_structures == size])) for size in sizes
    }
    best = max(rates, key=lambda size: rates[size], default=0)
    return [call for call in calls if call.n_structures == best]


def _rate(unit: str) -> Estimator:
    def estimate(costs: Costs) -> Estimate:
        calls = _best_batch(costs)
        if not calls:
            return nothing(costs.limit)
        rates = np.asarray([getattr(call, unit) / call.seconds for call in calls])
        said = [f"batches of {calls[0].n_structures}", f"nothing larger: {costs.limit}" if costs.limit else None]
        found = geometric_mean(rates)
        return replace(found, reason="; ".join(filter(None, [*said, found.reason])))

    return estimate


def _fitted(field: str) -> Estimator:
    def estimate(costs: Costs) -> Estimate:
        calls = costs.of(Stage.THROUGHPUT)
        atoms = np.asarray([call.n_atoms for call in calls], dtype=np.int64)
        found: Estimate = getattr(line(atoms, _seconds(calls)), field)
        return _scaled(found, _MILLI)

    return estimate


def _memory(field: str) -> Estimator:
    def estimate(costs: Costs) -> Estimate:
        peaks = [getattr(call, field) for call in costs.of(Stage.THROUGHPUT)]
        known = [peak for peak in peaks if peak is not None]
        if not known:
            return nothing("the allocator of a processor keeps no count" if peaks else costs.limit)
        largest = max(call.n_structures for call in costs.of(Stage.THROUGHPUT))
        return Estimate(max(known) / _MIB, None, None, len(known), f"the most, of batches up to {largest}")

    return estimate


def _cutoff(costs: Costs) -> Estimate:
    return counted(costs.cutoff, 1, "the model's card names no cutoff")


COST_METRICS: Final[Mapping[str, MetricDefinition[Costs]]] = MappingProxyType(
    {
        one.name: one
        for one in (
            cost_metric(
                Family.SIZE,
                "parameters",
                "1",
                "Parameters",
                "parameters of the torch module, one that stands in several places counted once",
                _parameters("total"),
                whole=True,
            ),
            cost_metric(
                Family.SIZE,
                "trainable_parameters",
                "1",
                "Trainable parameters",
                "those that training changes",
                _parameters("trainable"),
                whole=True,
            ),
            cost_metric(
                Family.SIZE,
                "idle_parameters",
                "1",
                "Parameters without gradient",
                "trainable parameters in tensors that nothing connects with energy or forces",
                _parameters("without_gradient"),
                whole=True,
            ),
            cost_metric(
                Family.OPERATIONS,
                "flops_energy",
                "GFLOP",
                "FLOPs, energy",
                "10⁹ floating-point operations of products of matrices in a call for the energy, per structure; a "
                "multiply-add is two",
                lambda costs: _per(costs, lambda facts: _dispatched(facts.energy), "structures"),
            ),
            cost_metric(
                Family.OPERATIONS,
                "flops",
                "GFLOP",
                "FLOPs, energy and forces",
                "the same in a call for energy and forces",
                lambda costs: _per(costs, lambda facts: _dispatched(facts.forces), "structures"),
            ),
            cost_metric(
                Family.OPERATIONS,
                "flops_per_atom",
                "GFLOP",
                "FLOPs per atom",
                "the same per atom",
                lambda costs: _per(costs, lambda facts: _dispatched(facts.forces), "atoms"),
            ),
            cost_metric(
                Family.OPERATIONS,
                "flops_per_edge",
                "GFLOP",
                "FLOPs per edge",
                "the same per directed edge of the model's graph",
                lambda costs: _per(costs, lambda facts: _dispatched(facts.forces), "edges"),
            ),
            cost_metric(
                Family.OPERATIONS,
                "flops_thop",
                "GFLOP",
                "FLOPs by thop",
                "twice the multiply-adds that thop counts in a call for energy and forces, per structure; for "
                "comparison with published figures only",
                lambda costs: _per(costs, lambda facts: _thop(facts.forces), "structures"),
                neither=True,
            ),
            cost_metric(
                Family.OPERATIONS,
                "counted_share",
                "1",
                "Operators counted",
                "share of the operator calls that compute and are counted as FLOPs; the rest is elementwise, "
                "reductions and scatter",
                _share,
                share=True,
                neither=True,
            ),
            cost_metric(
                Family.SIZE,
                "mean_edges",
                "1",
                "Edges",
                "directed edges of the model's graph, per structure",
                lambda costs: _per(costs, lambda facts: facts.n_edges, "structures"),
                neither=True,
            ),
            cost_metric(Family.SIZE, "cutoff", "Å", "Cutoff", "as the model's card has it", _cutoff, neither=True),
            cost_metric(
                Family.LATENCY,
                "latency_p50",
                "ms",
                "Latency, median",
                "wall time of a call with one structure, neighbour list and transfer included, energy and forces",
                _percentile(0.5),
            ),
            cost_metric(Family.LATENCY, "latency_p90", "ms", "Latency, 90 %", "its 90th percentile", _percentile(0.9)),
            cost_metric(Family.LATENCY, "latency_p99", "ms", "Latency, 99 %", "its 99th percentile", _percentile(0.99)),
            cost_metric(
                Family.LATENCY,
                "latency_prepare",
                "ms",
                "of it preparing",
                "median of the part for neighbour list, graph and transfer",
                _half("prepare_seconds"),
            ),
            cost_metric(
                Family.LATENCY,
                "latency_forward",
                "ms",
                "of it the model",
                "median of the rest",
                _half("forward_seconds"),
            ),
            cost_metric(
                Family.LATENCY,
                "latency_energy",
                "ms",
                "Latency, energy alone",
                "median wall time of a call for the energy alone",
                _percentile(0.5, Stage.ENERGY),
            ),
            cost_metric(
                Family.LATENCY,
                "latency_ratio",
                "1",
                "Latency over the reference's",
                "Hodges-Lehmann estimate of the ratio of latencies in the same rounds with the same structures",
                _ratio,
            ),
            cost_metric(
                Family.LATENCY,
                "cold_start",
                "ms",
                "First call",
                "wall time of the first call of all, compilation included",
                _cold,
            ),
            cost_metric(
                Family.BATCHES,
                "throughput",
                "1/s",
                "Structures per second",
                "structures of a batch over the time of a call, geometric mean, at the size where that is most",
                _rate("n_structures"),
                rises=True,
            ),
            cost_metric(
                Family.BATCHES,
                "atom_throughput",
                "1/s",
                "Atoms per second",
                "the same for atoms",
                _rate("n_atoms"),
                rises=True,
            ),
            cost_metric(
                Family.BATCHES,
                "batch_overhead",
                "ms",
                "Overhead of a call",
                "intercept of the line of time over atoms, by least squares of relative errors over all batches",
                _fitted("overhead"),
            ),
            cost_metric(Family.BATCHES, "time_per_atom", "ms", "Time per atom", "slope of that line", _fitted("slope")),
            cost_metric(
                Family.MEMORY,
                "peak_memory",
                "MiB",
                "Memory",
                "most memory held in a call: of the device, or of the whole process on a processor",
                _memory("peak_memory"),
            ),
            cost_metric(
                Family.MEMORY,
                "peak_allocator",
                "MiB",
                "Memory of the allocator",
                "most memory that the device's allocator handed out in a call",
                _memory("peak_allocator"),
            ),
            cost_metric(
                Family.TRAINING,
                "training_step",
                "ms",
                "Training step",
                "median wall time of an optimiser step at the recipe's batch size, as its trainer measured it",
                lambda costs: _scaled(costs.step, _MILLI),
            ),
            cost_metric(
                Family.TRAINING,
                "training_rate",
                "1/s",
                "Training, structures per second",
                "structures of a batch over that time",
                lambda costs: costs.samples,
                rises=True,
            ),
        )
    }
)
"""The metrics of the task ``efficiency`` by name, in the order of tables."""

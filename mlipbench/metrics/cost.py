"""The metrics of the task ``efficiency``."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from mlipbench.cost import Stage
from mlipbench.metrics.cost_columns import Family, cost_metric
from mlipbench.metrics.cost_estimates import (
    MILLI,
    best_rate,
    compiling,
    counted_share,
    declared_cutoff,
    dispatched_operations,
    first_call,
    line_through_batches,
    number_of_parameters,
    peak,
    per,
    percentile_of,
    ratio_to_reference,
    scaled,
    seen_by_thop,
    thop_operations,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlipbench.metrics.cost_columns import Costs
    from mlipbench.metrics.definition import MetricDefinition

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
                number_of_parameters("total"),
                whole=True,
            ),
            cost_metric(
                Family.SIZE,
                "trainable_parameters",
                "1",
                "Trainable parameters",
                "those that training changes",
                number_of_parameters("trainable"),
                whole=True,
            ),
            cost_metric(
                Family.SIZE,
                "idle_parameters",
                "1",
                "Parameters without gradient",
                "trainable parameters in tensors that nothing connects with energy or forces",
                number_of_parameters("without_gradient"),
                whole=True,
            ),
            cost_metric(
                Family.OPERATIONS,
                "flops_energy",
                "GFLOP",
                "FLOPs, energy",
                "10⁹ floating-point operations of products of matrices in a call for the energy, per structure; a "
                "multiply-add is two",
                lambda costs: per(costs, lambda facts: dispatched_operations(facts.energy), "structures"),
            ),
            cost_metric(
                Family.OPERATIONS,
                "flops",
                "GFLOP",
                "FLOPs, energy and forces",
                "the same in a call for energy and forces",
                lambda costs: per(costs, lambda facts: dispatched_operations(facts.forces), "structures"),
            ),
            cost_metric(
                Family.OPERATIONS,
                "flops_per_atom",
                "GFLOP",
                "FLOPs per atom",
                "the same per atom",
                lambda costs: per(costs, lambda facts: dispatched_operations(facts.forces), "atoms"),
            ),
            cost_metric(
                Family.OPERATIONS,
                "flops_per_edge",
                "GFLOP",
                "FLOPs per edge",
                "the same per directed edge of the model's graph",
                lambda costs: per(costs, lambda facts: dispatched_operations(facts.forces), "edges"),
            ),
            cost_metric(
                Family.OPERATIONS,
                "flops_thop",
                "GFLOP",
                "FLOPs by thop",
                "twice the multiply-adds that thop counts in a call for energy and forces, per structure; for "
                "comparison with published figures only",
                lambda costs: per(costs, lambda facts: thop_operations(facts.forces), "structures"),
                neither=True,
            ),
            cost_metric(
                Family.OPERATIONS,
                "counted_share",
                "1",
                "Operators counted",
                "share of the operator calls that compute and are counted as FLOPs; the rest is elementwise, "
                "reductions and scatter",
                counted_share,
                share=True,
                neither=True,
            ),
            cost_metric(
                Family.OPERATIONS,
                "thop_share",
                "1",
                "Products seen by thop",
                "share of the calls of products that happened inside modules that thop has a rule for",
                seen_by_thop,
                share=True,
                neither=True,
            ),
            cost_metric(
                Family.SIZE,
                "mean_edges",
                "1",
                "Edges",
                "directed edges of the model's graph, per structure",
                lambda costs: per(costs, lambda facts: facts.n_edges, "structures"),
                neither=True,
            ),
            cost_metric(
                Family.SIZE, "cutoff", "Å", "Cutoff", "as the model's card has it", declared_cutoff, neither=True
            ),
            cost_metric(
                Family.LATENCY,
                "latency_p50",
                "ms",
                "Latency, median",
                "wall time of a call with one structure, neighbour list and transfer included, energy and forces",
                percentile_of(0.5),
            ),
            cost_metric(
                Family.LATENCY, "latency_p90", "ms", "Latency, 90 %", "its 90th percentile", percentile_of(0.9)
            ),
            cost_metric(
                Family.LATENCY, "latency_p99", "ms", "Latency, 99 %", "its 99th percentile", percentile_of(0.99)
            ),
            cost_metric(
                Family.LATENCY,
                "latency_prepare",
                "ms",
                "of it preparing",
                "median of the part for neighbour list, graph and transfer",
                percentile_of(0.5, field="prepare_seconds"),
            ),
            cost_metric(
                Family.LATENCY,
                "latency_forward",
                "ms",
                "of it the model",
                "median of the rest",
                percentile_of(0.5, field="forward_seconds"),
            ),
            cost_metric(
                Family.LATENCY,
                "latency_energy",
                "ms",
                "Latency, energy alone",
                "median wall time of a call for the energy alone",
                percentile_of(0.5, Stage.ENERGY),
            ),
            cost_metric(
                Family.LATENCY,
                "latency_ratio",
                "1",
                "Latency over the reference's",
                "Hodges-Lehmann estimate of the ratio of latencies in the same rounds with the same structures",
                ratio_to_reference,
            ),
            cost_metric(
                Family.LATENCY,
                "cold_start",
                "ms",
                "First call",
                "wall time of the first call of all, without that of torch's compiler",
                first_call,
            ),
            cost_metric(
                Family.LATENCY,
                "compile_time",
                "ms",
                "Compilation",
                "wall time of torch's compiler in the first call of all",
                compiling,
            ),
            cost_metric(
                Family.BATCHES,
                "throughput",
                "1/s",
                "Structures per second",
                "structures of a batch over the time of a call, geometric mean, at the size where that is most",
                best_rate("n_structures"),
                rises=True,
            ),
            cost_metric(
                Family.BATCHES,
                "atom_throughput",
                "1/s",
                "Atoms per second",
                "the same for atoms",
                best_rate("n_atoms"),
                rises=True,
            ),
            cost_metric(
                Family.BATCHES,
                "batch_overhead",
                "ms",
                "Overhead of a call",
                "intercept of the line of time over atoms, by least squares of relative errors over all batches",
                line_through_batches("overhead"),
            ),
            cost_metric(
                Family.BATCHES,
                "time_per_atom",
                "ms",
                "Time per atom",
                "slope of that line",
                line_through_batches("slope"),
            ),
            cost_metric(
                Family.MEMORY,
                "peak_memory",
                "MiB",
                "Memory",
                "most memory held in a call: of the device, or of the whole process on a processor",
                peak("peak_memory"),
            ),
            cost_metric(
                Family.MEMORY,
                "peak_allocator",
                "MiB",
                "Memory of the allocator",
                "most memory that the device's allocator handed out in a call",
                peak("peak_allocator"),
            ),
            cost_metric(
                Family.TRAINING,
                "training_step",
                "ms",
                "Training step",
                "median wall time of an optimiser step at the recipe's batch size, as its trainer measured it",
                lambda costs: scaled(costs.step, MILLI),
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

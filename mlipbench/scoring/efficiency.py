"""What is known of the cost of a model, read back from a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlipbench.checkpoint import StepTimes, step_times_of
from mlipbench.cost import CostFacts
from mlipbench.errors import ResultsError
from mlipbench.metrics.cost_columns import Costs
from mlipbench.metrics.definition import Estimate
from mlipbench.store.timings import read_calls

if TYPE_CHECKING:
    from mlipbench.store.records import CostRecord, Manifest, SplitRecord
    from mlipbench.store.rundir import RunDirectory


def read_costs(directory: RunDirectory, manifest: Manifest, record: SplitRecord) -> Costs:
    """Return what was counted and timed on one split.

    Args:
        directory: The run.
        manifest: Its manifest.
        record: What became of the split.

    Raises:
        ResultsError: A file is missing or damaged.
    """
    known = directory.read_costs(record.dataset, record.split)
    step, samples = _training(manifest, record.dataset)
    return Costs(
        facts=_facts(directory, record, known),
        calls=read_calls(directory, record.dataset, record.split),
        step=step,
        samples=samples,
        cutoff=manifest.model.card["capabilities"].get("cutoff"),
        reference=known.reference,
        limit=known.limit,
        parity=known.parity,
    )


def _facts(directory: RunDirectory, record: SplitRecord, known: CostRecord) -> CostFacts | str:
    if known.counts is None:
        return str(known.counts_reason)
    try:
        return CostFacts.from_header(known.counts)
    except ValueError as error:
        path = directory.costs(record.dataset, record.split)
        raise ResultsError(f"damaged: {error}", file=path, remedy="measure again with --again") from None


def _training(manifest: Manifest, dataset: str) -> tuple[Estimate, Estimate]:
    """Return what a step of training took and how many structures a second that is, if it was measured here."""
    times = step_times_of(manifest.model.checkpoints.get(dataset, {}))
    reason = _why_not_here(times, manifest)
    if times is None or reason is not None:
        none = Estimate(None, None, None, 0, reason)
        return none, none
    how = (
        f"batch of {times.batch}; quartiles in place of an interval: steps of one training, not in rounds with other "
        f"models"
    )
    step = Estimate(times.median, times.p25, times.p75, times.n, how)
    value, low, high = (times.batch / seconds for seconds in (times.median, times.p75, times.p25))
    return step, Estimate(value, low, high, times.n, how)


def _why_not_here(times: StepTimes | None, manifest: Manifest) -> str | None:
    """Return why times of training say nothing of this machine, or None."""
    if times is None:
        return "the weights were trained elsewhere, or without a clock"
    here = (manifest.variant.device.partition(":")[0], manifest.threads, manifest.hardware["parent"].get("processor"))
    there = (times.device, times.threads, times.processor)
    if here != there:
        return f"trained on {times.processor}, {times.device}, {times.threads} threads, not on what was measured here"
    return None

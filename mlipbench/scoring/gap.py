"""Numbers that compare the splits of a dataset with each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlipbench.metrics.contrast import Estimate, gap
from mlipbench.status import Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlipbench.datasets.entry import Gap
    from mlipbench.store.records import CellRecord, MetricRecord


def gap_record(cell: CellRecord, splits: Gap, records: Sequence[MetricRecord]) -> MetricRecord:
    """Return the number of a gap.

    Args:
        cell: What the plan says of it.
        splits: The splits it is formed from.
        records: The numbers of the dataset, among them those of each of these splits.
    """
    found = {record.split: record for record in records if (record.task, record.metric) == (cell.task, cell.metric)}
    parts = [found[split] for split in splits.splits]
    estimates = [Estimate(part.value, part.ci_low, part.ci_high) for part in parts if part.value is not None]
    worst = next((part for part in parts if part.value is None), None)
    worst = worst or next((part for part in parts if part.status is not Status.OK), parts[0])
    whole = len(estimates) == len(parts)
    value, low, high = gap(estimates[0], estimates[1:]) if whole else (None, None, None)
    bare = next((part for part in parts if part.ci_low is None), None)
    reasons = [f"{part.split}: {part.reason}" for part in dict.fromkeys((worst, bare)) if part and part.reason]
    return parts[0].model_copy(
        update={
            "split": cell.split,
            "comparability_key": cell.comparability_key,
            "value": value,
            "ci_low": low,
            "ci_high": high,
            "n": sum(part.n for part in parts),
            "n_clusters": sum(part.n_clusters for part in parts),
            "n_failed": sum(part.n_failed for part in parts),
            "status": worst.status,
            "reason": "; ".join(reasons) or None,
        }
    )

"""Which numbers of a table stand there without a rank, and why."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, TypeGuard

from mlipbench.comparison.differing import differing
from mlipbench.datasets.entry import GAP
from mlipbench.metrics.catalogue import TASK_METRICS, find_metric
from mlipbench.metrics.values import Direction
from mlipbench.status import Source, Status, Task, Training

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mlipbench.comparison.collect import RunRecord
    from mlipbench.comparison.scores import ScoreReader
    from mlipbench.report.grouping import Group
    from mlipbench.store.records import MetricRecord

_NAMED: Final = 3
_AVERAGED: Final = "not ranked: a mean over training seeds, whose runs are"
_NO_SCORES: Final = "not ranked: the scores that it would be compared by cannot be read"


def unranked(
    group: Group, by_run: Sequence[Sequence[MetricRecord | None]], home: Group, scores: ScoreReader
) -> tuple[tuple[str | None, ...], ...]:
    """Return why the numbers of a table are not ranked, None where they may be; shape of `by_run`.

    A number is not ranked if its run was made by other code than most runs of the table, if it is incomplete, if its
    model was trained on the very structures, if it counts fewer structures than others in its column, if its scores
    cannot be read, or if it stands alone because others have another comparability key. What is no number needs no
    reason.

    Args:
        group: The runs of the table.
        by_run: For every run, its number in each column.
        home: The first table of the same task and dataset.
        scores: Where per-structure scores come from.
    """
    codes = _other_code(group.runs)
    by_column = list(zip(*by_run, strict=True))
    most = [max((record.n for record in records if has_value(record)), default=0) for records in by_column]
    keys = [_other_key(group, records, home) for records in by_column]
    reasons = []
    for run, code, records in zip(group.runs, codes, by_run, strict=True):
        own = []
        for record, n, key in zip(records, most, keys, strict=True):
            reason = None
            if has_value(record):
                reason = code or _own_reason(record, n)
                if reason is None and is_ranked(record):
                    reason = key if scores.read(run, record) else _NO_SCORES
                if run.source is Source.AVERAGED:
                    reason = _AVERAGED
            own.append(reason)
        reasons.append(tuple(own))
    return tuple(reasons)


def has_value(record: MetricRecord | None) -> TypeGuard[MetricRecord]:
    """Return whether there is a number."""
    return record is not None and record.value is not None


def is_ranked(record: MetricRecord) -> bool:
    """Return whether models are ranked by such numbers."""
    definition = find_metric(record.task, record.metric)
    if definition is None or definition.timed or definition.direction is Direction.NEITHER or record.split == GAP:
        return False
    return TASK_METRICS[Task(record.task)].columns is not None


def key_difference(group: Group, home: Group) -> str | None:
    """Return in words in which parts of their comparability keys two tables differ, None where nothing tells."""
    for run in group.runs:
        for record in run.metrics:
            if (record.task, record.dataset) == (group.task, group.dataset) and has_value(record):
                found = _difference(run, record, home.runs)
                if found:
                    return found
    return None


def _other_code(runs: Sequence[RunRecord]) -> list[str | None]:
    """Return why runs are not ranked whose code is not that of most; of equally frequent ones the newest counts."""
    manifests = [run.manifest for run in runs]
    counts = Counter(manifest.code_version for manifest in manifests if manifest is not None)
    newest: dict[str, str] = {}
    for manifest in manifests:
        if manifest is not None:
            newest[manifest.code_version] = max(newest.get(manifest.code_version, ""), manifest.started)
    kept = max(counts, key=lambda code: (counts[code], newest[code], code), default="")
    return [
        None
        if manifest is None or manifest.code_version == kept
        else f"not ranked: made by other code (mlipbench {manifest.code_version}) than most of the table ({kept})"
        for manifest in manifests
    ]


def _own_reason(record: MetricRecord, most: int) -> str | None:
    if record.status is not Status.OK:
        counted = f" ({record.n} structures counted, {record.n_failed} failed)" if record.n_failed else ""
        return f"{record.status.value}, not ranked: {record.reason or 'no reason is recorded'}{counted}"
    if record.relation is Training.CONTAMINATED:
        return "not ranked: trained on these very structures"
    # Of simulations, fewer replicas count where others ended early, which is a result.
    if is_ranked(record) and record.task != Task.MD and record.n < most:
        return f"not ranked: {record.n} structures counted, of others {most}"
    return None


def _other_key(group: Group, records: Sequence[MetricRecord | None], home: Group) -> str | None:
    """Return why a number that is alone in its column has no rank, None where it is not or nobody has another key."""
    present = [(run, record) for run, record in zip(group.runs, records, strict=True) if has_value(record)]
    if len(present) != 1:
        return None
    difference = _difference(*present[0], [*group.runs, *home.runs])
    return f"not ranked: another comparability key than others ({difference})" if difference else None


def _difference(run: RunRecord, record: MetricRecord, others: Iterable[RunRecord]) -> str | None:
    """Return how the key of a number differs from the first one of others in the same place; None if none does."""
    place = (record.task, record.dataset, record.split, record.metric)
    for other in others:
        for found in other.metrics:
            same = (found.task, found.dataset, found.split, found.metric) == place and has_value(found)
            if same and found.comparability_key != record.comparability_key and run.manifest and other.manifest:
                fields = [str(one) for one in differing((run.manifest, record), (other.manifest, found))]
                more = [f"{len(fields) - _NAMED} more"] if len(fields) > _NAMED else []
                return "; ".join([*fields[:_NAMED], *more])
    return None

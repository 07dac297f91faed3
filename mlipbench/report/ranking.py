"""Which ranks the models of a column can have."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING

import numpy as np

from mlipbench.metrics.catalogue import find_metric
from mlipbench.metrics.dynamics import rank_replicas
from mlipbench.metrics.ranks import rank_models
from mlipbench.metrics.values import Direction
from mlipbench.report.standing import has_value
from mlipbench.status import Source, Training

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlipbench.comparison.collect import RunRecord
    from mlipbench.comparison.scores import ScoreReader, Scores
    from mlipbench.metrics.ranks import Rank
    from mlipbench.store.records import MetricRecord
    from mlipbench.typing import AnyArray, FloatArray


def ranks(candidates: Sequence[tuple[RunRecord, MetricRecord]], scores: ScoreReader) -> dict[int, Rank]:
    """Return the ranks of the candidates by their positions.

    Only measured numbers with scores take part; they must have one comparability key. Fewer than two are not ranked,
    and nothing is where there are too few clusters to tell anything apart.

    Args:
        candidates: Runs with their number in one column of a table, those that may be ranked.
        scores: Where per-structure scores come from.
    """
    rankable: dict[int, Scores] = {}
    for position, (run, record) in enumerate(candidates):
        if run.source is Source.MEASURED:
            table = scores.read(run, record)
            if table is not None:
                rankable[position] = table
    definition = find_metric(candidates[0][1].task, candidates[0][1].metric) if candidates else None
    if definition is None or definition.direction is Direction.NEITHER or definition.timed:
        return {}
    if len(rankable) < 2:  # noqa: PLR2004 - one number has no rank
        return {}
    shared = reduce(np.intersect1d, (table.index for table in rankable.values()))
    if not shared.size:
        return {}
    rows = {position: table.rows(shared) for position, table in rankable.items()}
    if definition.differ is not None:
        replicas = {str(position): rankable[position].replicas(taken) for position, taken in rows.items()}
        return _by_position(rank_replicas(definition, replicas))
    values: dict[str, tuple[FloatArray, FloatArray]] = {}
    clusters: AnyArray = np.zeros(0)
    for position, taken in rows.items():
        numerator, denominator = rankable[position].sums(definition)
        values[str(position)] = (numerator[taken], denominator[taken])
        clusters = rankable[position].clusters[taken]
    return _by_position(rank_models(values, clusters, definition.direction, definition.scale))


def _by_position(found: dict[str, Rank]) -> dict[int, Rank]:
    return {int(position): rank for position, rank in found.items()}


def column_ranks(
    runs: Sequence[RunRecord],
    records: Sequence[MetricRecord | None],
    reasons: Sequence[str | None],
    scores: ScoreReader,
) -> dict[int, Rank]:
    """Return the ranks of the runs among those of their kind in one column, by their positions."""
    kinds: dict[Training, list[tuple[int, MetricRecord]]] = {}
    for number, (record, reason) in enumerate(zip(records, reasons, strict=True)):
        if has_value(record) and reason is None:
            kinds.setdefault(record.relation, []).append((number, record))
    found: dict[int, Rank] = {}
    for present in kinds.values():
        positions = ranks([(runs[number], record) for number, record in present], scores)
        found |= {present[position][0]: rank for position, rank in positions.items()}
    return found

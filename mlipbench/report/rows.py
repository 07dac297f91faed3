"""The tidy table: one row a number, as CSV."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from mlipbench.metrics.catalogue import find_metric
from mlipbench.report.distance import distance
from mlipbench.report.seeds import averaged
from mlipbench.report.text import escape_csv
from mlipbench.report.verdicts import verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mlipbench.comparison.collect import RunRecord
    from mlipbench.metrics.ranks import Rank
    from mlipbench.report.table import Table
    from mlipbench.status import Source
    from mlipbench.store.records import MetricRecord

COLUMNS: Final = (
    "model", "variant", "training", "seed", "dataset", "split", "task", "metric", "value", "unit", "direction",
    "ci_low", "ci_high", "two_way_low", "two_way_high", "design_effect", "rank_low", "rank_high", "n", "n_failed",
    "status", "reason", "source", "comparability_key", "run_id", "citation", "distance",
    "threshold", "passes",
)  # fmt: skip
"""Columns of ``leaderboard.csv``."""


@dataclass(frozen=True, slots=True)
class Row:
    """One number of the leaderboard.

    Attributes:
        model: Name of the model.
        variant: Name of the settings it was run with.
        seed: Seed of the run; None for published numbers.
        record: The number.
        source: Whether it was measured, averaged or published.
        run_id: Run it comes from; empty for published numbers.
        citation: Where a published number stands, or the one that a measured number is compared with.
        distance: How far a measured number is from a published one under the same protocol; None where there is none.
        rank: The ranks that the model can have in the table of the task; None where nothing was compared.
        passes: Whether it keeps to the threshold of its metric; None where there is none, or the model does not claim
            to.
    """

    model: str
    variant: str
    seed: int | None
    record: MetricRecord
    source: Source
    run_id: str = ""
    citation: str = ""
    distance: float | None = None
    rank: Rank | None = None
    passes: bool | None = None

    def as_dict(self) -> dict[str, str | int | float | None]:
        """Return the cells by the name of their column."""
        own: dict[str, str | int | float | None] = {
            "model": self.model,
            "variant": self.variant,
            "seed": self.seed,
            "source": self.source.value,
        }
        own["training"] = self.record.relation.value
        own["rank_low"], own["rank_high"] = self.rank or (None, None)
        definition = find_metric(self.record.task, self.record.metric)
        threshold = None if definition is None else definition.threshold
        own |= {
            "threshold": None if threshold is None else threshold.limit,
            "passes": None if self.passes is None else str(self.passes).lower(),
        }
        own |= {"run_id": self.run_id, "citation": self.citation, "distance": self.distance}
        fields = self.record.model_dump(mode="json") | own
        return {column: fields[column] for column in COLUMNS}


def leaderboard_rows(records: Sequence[RunRecord], tables: Sequence[Table]) -> tuple[Row, ...]:
    """Return all numbers of all runs and publications in the order of the CSV file.

    Args:
        records: What `collect` found.
        tables: What `build_tables` made of them, for ranks and means over training seeds.
    """
    ranks = {
        (row.run.directory, table.task, table.dataset, cell.record.split, cell.record.metric): cell.rank
        for table in tables
        for row in table.rows
        for cell in row.cells
        if cell.rank is not None and cell.record is not None and cell.record.task == table.task and row.run is not None
    }
    rows = []
    for run in (*records, *averaged(tables)):
        for one in run.metrics:
            rank = ranks.get((run.directory, one.task, one.dataset, one.split, one.metric))
            rows.append(replace(_row(run, one, records), rank=rank))
    return tuple(sorted(rows, key=_order))


def _row(run: RunRecord, record: MetricRecord, records: Sequence[RunRecord]) -> Row:
    row = Row(run.model, run.variant, run.seed, record, run.source, run.run_id, passes=verdict(run, record))
    if run.reference is not None:
        return replace(row, citation=run.reference.citation)
    found = distance(run, record, records)
    return row if found is None else replace(row, citation=found.citation, distance=found.value)


def to_csv(rows: Iterable[Row]) -> str:
    """Return the rows as CSV: floats in their shortest exact form, missing cells empty, formulas escaped."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow([_cell(value) for value in row.as_dict().values()])
    return buffer.getvalue()


def _cell(value: str | float | None) -> str:
    if value is None:
        return ""
    return escape_csv(value) if isinstance(value, str) else repr(value)


def _order(row: Row) -> tuple[str | int, ...]:
    record = row.record
    place = (record.dataset, record.split, record.task, record.metric)
    seed = -1 if row.seed is None else row.seed
    return (*place, row.model, row.variant, seed, row.source, row.run_id, row.citation, record.comparability_key)

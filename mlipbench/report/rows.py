"""The tidy table: one row a number, as CSV."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mlipbench.errors import ResultsError
from mlipbench.report.seeds import seed_means
from mlipbench.report.text import escape_csv, unescape_csv
from mlipbench.status import Source, Training
from mlipbench.store.records import MetricRecord

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from mlipbench.metrics.ranks import Rank
    from mlipbench.report.collect import RunRecord
    from mlipbench.report.table import Table

COLUMNS: Final = (
    "model", "variant", "training", "seed", "dataset", "split", "task", "metric", "value", "unit", "direction",
    "ci_low", "ci_high", "two_way_low", "two_way_high", "design_effect", "rank_low", "rank_high", "n", "n_failed",
    "status", "reason", "source", "comparability_key", "run_id",
)  # fmt: skip
"""Columns of ``leaderboard.csv``."""
_MEASURED: Final = frozenset({"design_effect", "rank_low", "rank_high"})
"""Columns that published rows have nothing to say in."""


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
        citation: Where a published number stands.
        rank: The ranks that the model can have in the table of the task; None where nothing was compared.
    """

    model: str
    variant: str
    seed: int | None
    record: MetricRecord
    source: Source
    run_id: str = ""
    citation: str = ""
    rank: Rank | None = None

    def as_dict(self) -> dict[str, str | int | float | None]:
        """Return the cells by the name of their column."""
        own = {"model": self.model, "variant": self.variant, "seed": self.seed, "source": self.source.value}
        own["training"] = self.record.relation.value
        own["rank_low"], own["rank_high"] = self.rank or (None, None)
        fields = self.record.model_dump(mode="json") | own | {"run_id": self.run_id}
        return {column: fields[column] for column in COLUMNS}


def leaderboard_rows(records: Sequence[RunRecord], tables: Iterable[Table]) -> tuple[Row, ...]:
    """Return all numbers of all runs in the order of the CSV file.

    Args:
        records: What `collect` found.
        tables: What `build_tables` made of them, for the ranks.
    """
    ranks = {
        (row.run.directory, table.task, table.dataset, cell.record.split, cell.record.metric): cell.rank
        for table in tables
        for row in table.rows
        for cell in row.cells
        if cell.rank is not None and cell.record is not None and cell.record.task == table.task
    }
    rows = []
    for run in (*records, *seed_means(records)):
        for one in run.metrics:
            rank = ranks.get((run.directory, one.task, one.dataset, one.split, one.metric))
            rows.append(Row(run.model, run.variant, run.seed, one, run.source, run.run_id, run.citation, rank))
    return tuple(sorted(rows, key=_order))


def to_csv(rows: Iterable[Row]) -> str:
    """Return the rows as CSV: floats in their shortest exact form, missing cells empty, formulas escaped."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow([_cell(value) for value in row.as_dict().values()])
    return buffer.getvalue()


def read_published(path: Path) -> tuple[Row, ...]:
    """Read reference rows: the columns of the leaderboard and ``citation``.

    Raises:
        ResultsError: A column is missing or a cell is invalid.
    """
    from pydantic import ValidationError

    needed = {*COLUMNS, "citation"} - _MEASURED
    rows = []
    with path.open(encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream)
        missing = needed - set(reader.fieldnames or ())
        if missing:
            raise ResultsError(f"columns are missing: {', '.join(sorted(missing))}", file=path, where="line 1")
        for cells in reader:
            where = f"line {reader.line_num}"
            try:
                rows.append(_published({name: unescape_csv(cells[name] or "") for name in needed}))
            except ValidationError as error:
                first = error.errors(include_url=False)[0]
                field = ".".join(str(part) for part in first["loc"])
                raise ResultsError(first["msg"], file=path, where=f"{where}, {field}") from None
            except ValueError as error:
                raise ResultsError(str(error), file=path, where=where) from None
    return tuple(rows)


def _published(cells: Mapping[str, str]) -> Row:
    if not cells["citation"]:
        raise ValueError("a published number needs a citation")
    training = cells["training"] or Training.UNKNOWN.value
    if training not in {kind.value for kind in Training}:
        raise ValueError(f"training: {training!r} is none of {', '.join(Training)}")
    fields = {name: cells[name] for name in MetricRecord.model_fields if name != "training" and cells.get(name)}
    defaults = {"status": "ok", "comparability_key": f"published: {cells['citation']}", "relation": training}
    seed = int(cells["seed"]) if cells["seed"] else None
    record = MetricRecord.model_validate({"value": None} | defaults | fields)
    return Row(cells["model"], cells["variant"], seed, record, Source.PUBLISHED, citation=cells["citation"])


def _cell(value: str | float | None) -> str:
    if value is None:
        return ""
    return escape_csv(value) if isinstance(value, str) else repr(value)


def _order(row: Row) -> tuple[str | int, ...]:
    record = row.record
    place = (record.dataset, record.split, record.task, record.metric)
    seed = -1 if row.seed is None else row.seed
    return (*place, row.model, row.variant, seed, row.source, row.run_id, row.citation, record.comparability_key)

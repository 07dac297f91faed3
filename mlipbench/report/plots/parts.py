"""What plots made from the numbers of tables have in common."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from mlipbench.report.text import clean
from mlipbench.status import Source, Status, Training

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mlipbench.report.table import Cell, Column, Table, TableRow

_UNFIT: Final = re.compile(r"[^a-z0-9]+")
HEIGHT: Final = 260
WIDTH: Final = 560
PANEL: Final = 300
"""Width of one of several panels."""


def label(row: TableRow) -> str:
    """Return what a model is called in legends: its name, and its variant where that is not the default."""
    return clean(row.model if row.variant == "default" else f"{row.model}, {row.variant}")


def name_of(*parts: str) -> str:
    """Return the name of a figure: ASCII letters, digits and hyphens."""
    return "-".join(filter(None, (_UNFIT.sub("-", part.lower()).strip("-") for part in parts)))


def table_name(table: Table) -> str:
    """Return what a table is called in names of figures."""
    return f"{table.dataset} {table.part or ''}".strip()


def first_unit(columns: Sequence[Column], *metrics: str) -> Iterator[tuple[int, Column]]:
    """Yield positions and columns of some metrics, each in the first of its units only."""
    units: dict[str, str] = {}
    for position, column in enumerate(columns):
        if column.metric in metrics and units.setdefault(column.metric, column.unit) == column.unit:
            yield position, column


def counts(cell: Cell) -> bool:
    """Say whether a number is complete and of a model that was not trained on the very structures."""
    record = cell.record
    if record is None or record.value is None or cell.unranked:
        return False
    return record.status is Status.OK and record.relation is not Training.CONTAMINATED


def measured(table: Table) -> Iterator[TableRow]:
    """Yield the rows of a table that were measured."""
    for row in table.rows:
        if row.run is not None and row.run.source is Source.MEASURED:
            yield row


def number(cell: Cell, column: Column) -> dict[str, float]:
    """Return value and ends of the interval of a cell in the unit of its column; the ends only where there are any."""
    record = cell.record
    if record is None or record.value is None:
        return {}
    found = {"value": record.value * column.factor}
    if record.ci_low is not None and record.ci_high is not None:
        found |= {"low": record.ci_low * column.factor, "high": record.ci_high * column.factor}
    return found


def quantity(column: Column) -> str:
    """Return title and unit of a column."""
    return clean(f"{column.title} ({column.unit})" if column.unit else column.title)


def models(title: str = "Model") -> dict[str, Any]:
    """Return the encoding of models by colour and by shape."""
    return {
        "color": {"field": "model", "type": "nominal", "title": title},
        "shape": {"field": "model", "type": "nominal", "title": title},
    }

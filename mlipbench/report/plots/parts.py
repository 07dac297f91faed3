"""What plots made from the numbers of tables have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from mlipbench.report.text import clean
from mlipbench.status import Source, Status, Training

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from mlipbench.report.table import Cell, Column, Table, TableRow

HEIGHT: Final = 260
WIDTH: Final = 560
PANEL: Final = 300
"""Width of one of several panels."""


def label(row: TableRow) -> str:
    """Return what a model is called in legends: its name, and its variant where that is not the default."""
    return clean(row.model if row.variant == "default" else f"{row.model}, {row.variant}")


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


def is_measured(row: TableRow) -> bool:
    """Say whether the numbers of a row were measured; published ones are not drawn with them."""
    return row.run is not None and row.run.source is Source.MEASURED


def number(cell: Cell, column: Column) -> dict[str, float]:
    """Return a number in the unit of its column: its value, its interval where it has one, and its bar.

    A number without interval has a bar without length. Nothing where there is no number.
    """
    record = cell.record
    if record is None or record.value is None:
        return {}
    value = record.value * column.factor
    if record.ci_low is None or record.ci_high is None:
        return {"value": value, "bar_low": value, "bar_high": value}
    low, high = record.ci_low * column.factor, record.ci_high * column.factor
    return {"value": value, "low": low, "high": high, "bar_low": low, "bar_high": high}


def quantity(column: Column) -> str:
    """Return title and unit of a column."""
    return clean(f"{column.title} ({column.unit})" if column.unit else column.title)


def lowered(text: str) -> str:
    """Return a title as it stands inside a sentence; words in capitals, such as FLOPs, stay."""
    return text if text[1:2].isupper() else f"{text[:1].lower()}{text[1:]}"


def panels(values: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the division of a plot into panels by the field ``panel``, in the order in which they stand."""
    names = list(dict.fromkeys(value["panel"] for value in values))
    return {"facet": {"field": "panel", "type": "nominal", "title": None, "sort": names}, "columns": 2}


def models(values: Iterable[Mapping[str, Any]], *channels: str) -> dict[str, Any]:
    """Return the encoding of models, in the order in which they stand.

    Args:
        values: What is drawn, the model in the field ``model``.
        channels: Such as ``color`` and ``shape``; with one domain they share a legend.
    """
    names = list(dict.fromkeys(value["model"] for value in values))
    encoding = {"field": "model", "type": "nominal", "title": "Model", "scale": {"domain": names}}
    return dict.fromkeys(channels, encoding)


def tooltip(*fields: tuple[str, str]) -> list[dict[str, str]]:
    """Return what is said of a point: its model, some fields with their titles, and the ends of its interval."""
    shown = [("model", "Model"), *fields, ("low", "95 % from"), ("high", "to")]
    return [{"field": field, "title": title} for field, title in shown]


def log(**settings: Any) -> dict[str, Any]:
    """Return a logarithmic scale with room beside the outermost points."""
    return {"type": "log", "nice": False, "padding": 14} | settings


def interval_bar(axis: str, position: dict[str, Any], other: dict[str, Any], low: str, high: str) -> dict[str, Any]:
    """Return a layer of bars along one axis, without what is said of points.

    Args:
        axis: ``x`` or ``y``.
        position: Encoding of the axis.
        other: The rest of the encoding.
        low: Field of the lower end.
        high: Field of the upper end.
    """
    return {
        "mark": {"type": "rule"},
        "encoding": {axis: position | {"field": low}, f"{axis}2": {"field": high}, **other},
    }

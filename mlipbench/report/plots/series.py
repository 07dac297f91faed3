"""Which models stand in one plot: those with a number in one column of a table."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from mlipbench.datasets.entry import GAP
from mlipbench.report.numbers import format_number
from mlipbench.report.plots.parts import first_unit, is_measured, label, number, table_name
from mlipbench.report.text import clean, slug
from mlipbench.store.rundir import RunDirectory

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from mlipbench.comparison.collect import RunRecord
    from mlipbench.report.table import Column, Table
    from mlipbench.status import Task
    from mlipbench.store.distributions import DistributionsRecord
    from mlipbench.store.records import MetricRecord

_Panel = TypeVar("_Panel")
_COLUMNS: Final = 3  # panels beside each other
MOST_PANELS: Final = 12
"""Panels of one figure; more models go on in the next."""


@dataclass(frozen=True, slots=True)
class Series:
    """One model in a plot.

    Attributes:
        name: What it is called.
        model: The same, marked where its number is not ranked.
        run: Its run.
        record: Its number in the column.
        said: The number in words, with interval and unit.
    """

    name: str
    model: str
    run: RunRecord
    record: MetricRecord
    said: str

    def distributions(self) -> DistributionsRecord | None:
        """Return what the run keeps for plots; None where it keeps nothing.

        Raises:
            ResultsError: The file is damaged.
        """
        if self.run.directory is None:
            return None
        return RunDirectory(self.run.directory).read_distributions(
            self.record.task, self.record.dataset, self.record.split
        )


@dataclass(frozen=True, slots=True)
class Comparison:
    """Models whose numbers in one column may be compared, in the order of the table.

    Attributes:
        name: How names of figures end.
        title: Dataset and split.
        column: The column.
        series: The models; one at least.
    """

    name: str
    title: str
    column: Column
    series: tuple[Series, ...]


def comparisons(tables: Sequence[Table], task: Task, metric: str) -> Iterator[Comparison]:
    """Yield the models to be compared on each split.

    Args:
        tables: What `build_tables` made of the runs.
        task: The task.
        metric: The metric whose column decides.
    """
    for table in (table for table in tables if table.task == task):
        seen: Counter[str] = Counter()
        for position, column in first_unit(table.columns, metric):
            series = tuple(_series(table, position, column))
            if not series or column.split == GAP:
                continue
            seen[column.split] += 1
            again = f" {seen[column.split]}" if seen[column.split] > 1 else ""
            part = f", table {table.part}" if table.part else ""
            title = clean(f"{table.dataset} {column.head}{part}{again and f', column{again}'}")
            yield Comparison(slug(table_name(table), column.split, again), title, column, series)


def _series(table: Table, position: int, column: Column) -> Iterator[Series]:
    for row in filter(is_measured, table.rows):
        cell = row.cells[position]
        shown = number(cell, column)
        if row.run is not None and cell.record is not None and shown:
            said = f"{format_number(shown['value'], shown.get('low'), shown.get('high'))} {column.unit}".strip()
            name = label(row)
            yield Series(name, f"{name}, not ranked" if cell.unranked else name, row.run, cell.record, said)


def pages(panels: Sequence[_Panel]) -> Iterator[tuple[str, Sequence[_Panel]]]:
    """Yield as many panels as one figure holds, each time with the number of the figure, empty where there is one."""
    for start in range(0, len(panels), MOST_PANELS):
        part = str(start // MOST_PANELS + 1) if len(panels) > MOST_PANELS else ""
        yield part, panels[start : start + MOST_PANELS]


def panels(values: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the part of a specification that gives each model a panel, and number the models in their values."""
    for place, value in enumerate(values):
        value["place"] = place
    sort = {"field": "place", "op": "min"}
    return {"facet": {"field": "model", "type": "nominal", "title": None, "sort": sort}, "columns": _COLUMNS}


def without_distributions(found: Iterable[Comparison], what: str) -> Iterator[str]:
    """Say which runs have no plot, because they keep nothing for it.

    Args:
        found: Models that should have one.
        what: What they do not keep.

    Raises:
        ResultsError: A file is damaged.
    """
    for comparison in found:
        names = [one.name for one in comparison.series if one.distributions() is None]
        if names:
            yield (
                f"{comparison.title}: no plot of {what} for {'; '.join(names)}, whose runs keep none; "
                f"`mlipbench score` adds them where predictions are kept."
            )

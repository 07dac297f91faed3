"""Times against the size of a structure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from mlipbench.report.plots.figure import Figure
from mlipbench.report.plots.parts import (
    HEIGHT,
    WIDTH,
    first_unit,
    interval_bar,
    is_measured,
    label,
    log,
    lowered,
    models,
    number,
    quantity,
    table_name,
    tooltip,
)
from mlipbench.report.text import slug
from mlipbench.status import Task

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mlipbench.report.table import Column, Table

_STEP: Final = re.compile(r"(?P<stem>.+)-(?P<atoms>[1-9][0-9]*)", re.ASCII)
_FEWEST: Final = 3
_TIMES: Final = ("latency_p50", "peak_memory")


def figures(tables: Sequence[Table]) -> Iterator[Figure]:
    """Yield latency and memory against the number of atoms, over splits whose names differ in that alone.

    Args:
        tables: What `build_tables` made of them.
    """
    for table in tables:
        if table.task != Task.EFFICIENCY:
            continue
        for metric in _TIMES:
            for stem, steps in _ladders(table, metric).items():
                values = list(_values(table, steps))
                if len({value["atoms"] for value in values}) >= _FEWEST:
                    yield _figure(table, stem, steps, values)


def _ladders(table: Table, metric: str) -> dict[str, list[tuple[int, int, Column]]]:
    """Return the atoms of each split, and where its column stands, by the stem of the splits' names."""
    found: dict[str, list[tuple[int, int, Column]]] = {}
    for position, column in first_unit(table.columns, metric):
        step = _STEP.fullmatch(column.split)
        if step:
            found.setdefault(step["stem"], []).append((int(step["atoms"]), position, column))
    return found


def _values(table: Table, steps: Sequence[tuple[int, int, Column]]) -> Iterator[dict[str, Any]]:
    for row in filter(is_measured, table.rows):
        for atoms, position, column in steps:
            found = number(row.cells[position], column)
            if found:
                yield {"model": label(row), "atoms": atoms, **found}


def _figure(table: Table, stem: str, steps: Sequence[tuple[int, int, Column]], values: list[dict[str, Any]]) -> Figure:
    first = steps[0][2]
    return Figure(
        name=slug("scaling", table_name(table), stem, first.title),
        title=f"{table.dataset} {stem}: {lowered(first.title)} against size",
        description=(
            f"{first.title} of every measured model against the atoms of a structure, {min(steps)[0]} to "
            f"{max(steps)[0]}, on logarithmic axes, with 95 % intervals; {first.conditions}. A slope of one is a cost "
            f"in proportion to size. A line ends at the largest size that was measured."
        ),
        spec=_spec(values, quantity(first)),
    )


def _spec(values: list[dict[str, Any]], title: str) -> dict[str, Any]:
    x = {"field": "atoms", "type": "quantitative", "title": "Atoms", "scale": log()}
    y = {"field": "value", "type": "quantitative", "title": title, "scale": log()}
    colour = models(values, "color")
    return {
        "data": {"values": values},
        "width": WIDTH,
        "height": HEIGHT,
        "layer": [
            {"mark": {"type": "line"}, "encoding": {"x": x, "y": y, **colour}},
            interval_bar("y", y, {"x": x, **colour}, "bar_low", "bar_high"),
            {
                "mark": {"type": "point", "filled": True, "size": 60, "opacity": 1},
                "encoding": {
                    "x": x,
                    "y": y,
                    **models(values, "color", "shape"),
                    "tooltip": tooltip(("atoms", "Atoms"), ("value", title)),
                },
            },
        ],
    }

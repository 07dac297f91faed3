"""How much larger errors are out of the training domain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlipbench.datasets.entry import GAP
from mlipbench.report.plots.figure import Figure
from mlipbench.report.plots.parts import (
    PANEL,
    first_unit,
    interval_bar,
    is_measured,
    label,
    number,
    panels,
    quantity,
    table_name,
    tooltip,
)
from mlipbench.report.text import clean, slug

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mlipbench.report.table import Table


def figures(tables: Sequence[Table]) -> Iterator[Figure]:
    """Yield the gaps between splits, of every model in every metric that has one.

    Args:
        tables: What `build_tables` made of them.
    """
    for table in tables:
        metrics = dict.fromkeys(column.metric for column in table.columns if column.split == GAP)
        columns = [found for found in first_unit(table.columns, *metrics) if found[1].split == GAP]
        values: list[dict[str, Any]] = [
            {"model": label(row), "panel": quantity(column), **number(row.cells[position], column)}
            for position, column in columns
            for row in table.rows
            if is_measured(row) and number(row.cells[position], column)
        ]
        if values:
            head = clean(columns[0][1].head)
            yield Figure(
                name=slug("gap", table.task, table_name(table)),
                title=f"{table.dataset}: {head}",
                description=(
                    f"{head[:1].upper()}{head[1:]} of every measured model: mean over splits out of the training "
                    "domain minus the split inside it, with 95 % intervals. At zero a model is as good out of its "
                    "domain as in it."
                ),
                spec=_spec(values),
            )


def _spec(values: list[dict[str, Any]]) -> dict[str, Any]:
    x = {"field": "value", "type": "quantitative", "title": "Gap"}
    y = {"field": "model", "type": "nominal", "title": None, "sort": None}
    return {
        "data": {"values": values},
        **panels(values),
        "spec": {
            "width": PANEL,
            "height": {"step": 20},
            "layer": [
                {"mark": {"type": "rule", "style": "guide"}, "encoding": {"x": {"datum": 0}}},
                interval_bar("x", x, {"y": y}, "bar_low", "bar_high"),
                {
                    "mark": {"type": "point", "filled": True, "size": 70, "opacity": 1},
                    "encoding": {"x": x, "y": y, "tooltip": tooltip(("value", "Gap"))},
                },
            ],
        },
        "resolve": {"scale": {"x": "independent"}},
    }

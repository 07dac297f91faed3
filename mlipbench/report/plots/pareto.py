"""Errors against costs, with the models that no other beats in both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from mlipbench.datasets.entry import GAP
from mlipbench.report.plots.figure import Figure
from mlipbench.report.plots.parts import (
    HEIGHT,
    PANEL,
    counts,
    first_unit,
    interval_bar,
    is_measured,
    label,
    log,
    lowered,
    models,
    number,
    panels,
    quantity,
    table_name,
    tooltip,
)
from mlipbench.report.text import clean, slug
from mlipbench.status import Task

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mlipbench.report.table import Column, Table

_ERRORS: Final = ("energy_mae", "forces_mae")
_COSTS: Final = ("latency_p50", "flops")
_PARAMETERS: Final = "Parameters"


def figures(tables: Sequence[Table]) -> Iterator[Figure]:
    """Yield errors against latency and FLOPs where both were measured on one split, and against parameters.

    Args:
        tables: What `build_tables` made of them.
    """
    for table in tables:
        if table.task == Task.EFFICIENCY:
            for position, cost in first_unit(table.columns, *_COSTS):
                yield from _figure(table, quantity(cost), _costs(table, position, cost), cost.split)
        if table.task == Task.S2EF:
            yield from _figure(table, _PARAMETERS, _parameters(table))


def _costs(table: Table, position: int, column: Column) -> dict[int, dict[str, float]]:
    """Return cost and interval of the rows that have one."""
    return {
        place: number(row.cells[position], column)
        for place, row in enumerate(table.rows)
        if number(row.cells[position], column)
    }


def _parameters(table: Table) -> dict[int, dict[str, float]]:
    found: dict[int, dict[str, float]] = {}
    for place, row in enumerate(table.rows):
        manifest = None if row.run is None else row.run.manifest
        if manifest is not None and manifest.environment.parameters:
            found[place] = {"value": float(manifest.environment.parameters)}
    return found


def _figure(table: Table, cost: str, costs: dict[int, dict[str, float]], split: str | None = None) -> Iterator[Figure]:
    """Yield the figure of one cost, where at least two models have it and an error.

    Args:
        table: The table.
        cost: Title of the cost.
        costs: Cost and interval by the position of the row.
        split: The split the cost was measured on, None where it does not depend on that.
    """
    found: list[tuple[str, list[dict[str, Any]]]] = []
    for position, column in first_unit(table.columns, *_ERRORS):
        if column.split != GAP and split in {None, column.split}:
            title = clean(f"{column.head}: {quantity(column)}")
            again = sum(panel.startswith(title) for panel, _ in found)  # energies or conditions differ
            found.append((f"{title}, column {again + 1}" if again else title, _points(table, position, column, costs)))
    values = [point | {"panel": panel} for panel, points in found if len(points) > 1 for point in points]
    if not values:
        return
    fronts = {panel: [str(point["model"]) for point in points if point["front"]] for panel, points in found}
    best = ". ".join(f"{panel}: {'; '.join(names)}" for panel, names in fronts.items() if names)
    where = "" if split is None else f" {split}"
    yield Figure(
        name=slug("pareto", table_name(table), split or "", cost.partition(" (")[0]),
        title=f"{table.dataset}{where}: error against {lowered(cost)}",
        description=(
            f"Mean absolute errors of measured models against {lowered(cost)}; both axes logarithmic where all "
            f"numbers are positive. Bars are 95 % intervals. Filled and joined: no other ranked model has both a "
            f"smaller error and a smaller cost, by the numbers without their intervals. {best}."
        ),
        spec=_spec(values, cost),
    )


def _points(table: Table, position: int, column: Column, costs: dict[int, dict[str, float]]) -> list[dict[str, Any]]:
    points: list[dict[str, Any]] = []
    for place, cost in costs.items():
        row = table.rows[place]
        error = number(row.cells[position], column)
        if is_measured(row) and error:
            ends = {f"cost_{end}": cost.get(f"bar_{end}", cost["value"]) for end in ("low", "high")}
            ranked = counts(row.cells[position])
            points.append({"model": label(row), "ranked": ranked, "cost": cost["value"], **ends, **error})
    front = pareto_front([(point["cost"], point["value"]) for point in points if point["ranked"]])
    for place, point in enumerate(points):
        point["front"] = point["ranked"] and (point["cost"], point["value"]) in front
        if point["front"] or (place == 0 and not front):  # one point makes no line, none no extent
            point["front_value"] = point["value"]
    return points


def pareto_front(points: Sequence[tuple[float, float]]) -> frozenset[tuple[float, float]]:
    """Return the points that no other one dominates: none is as small in both and smaller in one."""

    def dominated(one: tuple[float, float]) -> bool:
        return any(other != one and other[0] <= one[0] and other[1] <= one[1] for other in points)

    return frozenset(point for point in points if not dominated(point))


def _spec(values: list[dict[str, Any]], cost: str) -> dict[str, Any]:
    positive = all(value[field] > 0 for value in values for field in ("cost_low", "bar_low"))
    scale = log() if positive else {"zero": False}
    x = {
        "field": "cost",
        "type": "quantitative",
        "title": cost,
        "scale": scale,
        "axis": {"tickCount": 4, "labelSeparation": 8},
    }
    y = {"field": "value", "type": "quantitative", "title": None, "scale": scale, "axis": {"tickCount": 5}}
    colour = models(values, "color")
    points = {
        "mark": {"type": "point", "size": 90, "filled": True, "opacity": 1, "strokeWidth": 2},
        "encoding": {
            "x": x,
            "y": y,
            **models(values, "fill", "stroke", "shape"),
            "fillOpacity": {"condition": {"test": "datum.front", "value": 1}, "value": 0},
            "tooltip": tooltip(("cost", cost), ("value", "Error"), ("front", "On the front"), ("ranked", "Ranked")),
        },
    }
    front = {
        "mark": {"type": "line", "style": "guide", "interpolate": "step-after", "invalid": "filter"},
        "encoding": {"x": x, "y": y | {"field": "front_value"}, "order": {"field": "cost"}},
    }
    across = [interval_bar("x", x, {"y": y, **colour}, "cost_low", "cost_high")]
    bars = [interval_bar("y", y, {"x": x, **colour}, "bar_low", "bar_high")]
    bars += across if any(value["cost_low"] < value["cost_high"] for value in values) else []
    return {
        "data": {"values": values},
        **panels(values),
        "spec": {"width": PANEL, "height": HEIGHT, "layer": [front, *bars, points]},
        "resolve": {"scale": {"y": "independent"}},
    }

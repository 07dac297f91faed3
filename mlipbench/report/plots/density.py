"""Predicted force components against those of the reference, as densities."""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from mlipbench.report.plots.figure import Figure
from mlipbench.report.plots.series import comparisons, pages, panels, without_distributions
from mlipbench.report.text import slug
from mlipbench.status import Task

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mlipbench.report.plots.series import Series
    from mlipbench.report.table import Table
    from mlipbench.store.distributions import ForceDensityRecord

_METRIC: Final = "forces_mae"
_SIDE: Final = 243  # three pixels a bin
_TICKS: Final = (0.1, 1.0, 10.0)
_EDGES: Final = MappingProxyType(
    {"x": "datum.column", "x2": "datum.column + 1", "y": "datum.row", "y2": "datum.row + 1"}
)
"""The edges of a cell, in bins."""


def figures(tables: Sequence[Table]) -> Iterator[Figure]:
    """Yield the densities of all models on each split, a panel each.

    Args:
        tables: What `build_tables` made of them.

    Raises:
        ResultsError: A file of distributions is damaged.
    """
    for comparison in comparisons(tables, Task.S2EF, _METRIC):
        known = []
        for series in comparison.series:
            kept = series.distributions()
            if kept is not None and kept.forces is not None:
                known.append((series, kept.forces))
        for part, shown in pages(known):
            said = "; ".join(_said(series, density) for series, density in shown)
            first = shown[0][1]
            yield Figure(
                name=slug("force-density", comparison.name, part),
                title=f"{comparison.title}: predicted against reference forces{part and f', part {part}'}",
                description=(
                    f"Force components by prediction and reference, one panel a model; a model without errors has all "
                    f"on the diagonal. Both axes are logarithmic beyond {first.linear:g} eV/Å. {said}."
                ),
                spec=_spec(shown),
            )


def notes(tables: Sequence[Table]) -> Iterator[str]:
    """Say which runs have no density.

    Raises:
        ResultsError: A file of distributions is damaged.
    """
    yield from without_distributions(comparisons(tables, Task.S2EF, _METRIC), "predicted against reference forces")


def _said(series: Series, density: ForceDensityRecord) -> str:
    beyond = density.reference_beyond + density.predicted_beyond
    outside = f", {beyond:,} of them beyond {density.limit:g} eV/Å and not shown" if beyond else ""
    return f"{series.model}: {sum(density.counts) + beyond:,} components{outside}, mean absolute error {series.said}"


def _spec(shown: Sequence[tuple[Series, ForceDensityRecord]]) -> dict[str, Any]:
    values = [
        {"model": series.model, **density.model_dump(include={"limit", "linear", "bins", "cells", "counts"})}
        for series, density in shown
    ]
    reach = max(_reach(density) for _, density in shown)
    x, y = _axes(reach, shown[0][1].linear)
    diagonal = {
        "data": {"values": [{"x": -reach, "y": -reach}, {"x": reach, "y": reach}]},
        "mark": {"type": "line", "style": "guide", "aria": False},
        "encoding": {"x": x, "y": y},
    }
    return {
        "data": {"values": values},
        "transform": [
            {"flatten": ["cells", "counts"]},
            {"calculate": "floor(datum.cells / datum.bins)", "as": "column"},
            {"calculate": "datum.cells - datum.column * datum.bins", "as": "row"},
            *({"calculate": _edge(place), "as": end} for end, place in _EDGES.items()),
        ],
        **panels(values),
        "spec": {"width": _SIDE, "height": _SIDE, "layer": [_cells(x, y), diagonal]},
    }


def _axes(reach: float, linear: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the encodings of reference and prediction, on the scale that the bins are cut by."""
    ticks = [sign * tick for tick in _TICKS for sign in (-1, 1) if tick < reach]
    shared = {
        "type": "quantitative",
        "scale": {"type": "symlog", "constant": linear, "domain": [-reach, reach], "nice": False},
        "axis": {"values": sorted([0.0, *ticks]), "format": "~r", "grid": False},
    }
    x = {"field": "x", "title": "Reference (eV/Å)", **shared}
    return x, {"field": "y", "title": "Predicted (eV/Å)", **shared}


def _cells(x: dict[str, Any], y: dict[str, Any]) -> dict[str, Any]:
    edges = {"x": "Reference from", "x2": "to", "y": "Predicted from", "y2": "to "}  # titles must differ
    return {
        "mark": {"type": "rect", "aria": False},
        "encoding": {
            "x": x,
            "x2": {"field": "x2"},
            "y": y,
            "y2": {"field": "y2"},
            "color": {"field": "counts", "type": "quantitative", "title": "Components", "scale": {"type": "log"}},
            "tooltip": [
                {"field": "model", "title": "Model"},
                *({"field": one, "type": "quantitative", "title": edges[one], "format": ".2~r"} for one in edges),
                {"field": "counts", "type": "quantitative", "title": "Components", "format": ","},
            ],
        },
    }


def _edge(place: str) -> str:
    """Return the expression for the lower edge of a bin, eV/Å: the inverse of the scale that the bins are cut by."""
    scaled = f"(2 * ({place}) / datum.bins - 1) * log(1 + datum.limit / datum.linear)"
    return f"({scaled} < 0 ? -1 : 1) * datum.linear * (exp(abs({scaled})) - 1)"


def _reach(density: ForceDensityRecord) -> float:
    """Return the largest force, eV/Å, that cells with components extend to."""
    places = [place for cell in density.cells for place in divmod(cell, density.bins)]
    furthest = max((max(place + 1, density.bins - place) for place in places), default=density.bins)
    scaled = (2 * furthest / density.bins - 1) * math.log1p(density.limit / density.linear)
    return density.linear * math.expm1(scaled)

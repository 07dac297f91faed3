"""How many replicas of simulations are still stable."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mlipbench.comparison.scores import ScoreReader
from mlipbench.metrics.dynamics import ReplicaScores, endings_of
from mlipbench.metrics.survival import survival_band
from mlipbench.report.plots.figure import Figure
from mlipbench.report.plots.series import comparisons, pages, panels
from mlipbench.report.text import slug
from mlipbench.status import Task

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mlipbench.report.plots.series import Series
    from mlipbench.report.table import Table

_SIZE: Final = {"width": 220, "height": 160}


def figures(tables: Sequence[Table]) -> Iterator[Figure]:
    """Yield the survival curves of all models on each split, a panel each.

    Args:
        tables: What `build_tables` made of them.

    Raises:
        ResultsError: A file of scores is damaged.
    """
    scores = ScoreReader()
    for comparison in comparisons(tables, Task.MD, "stability"):
        known = [found for found in (_curve(series, scores) for series in comparison.series) if found is not None]
        for part, shown in pages(known):
            yield Figure(
                name=slug("survival", comparison.name, part),
                title=f"{comparison.title}: replicas still stable{part and f', part {part}'}",
                description=(
                    f"Kaplan-Meier estimates of the share of replicas that are stable up to a time, with 95 % limits "
                    f"at each time by itself; one panel a model. Crosses are replicas that were followed no further. "
                    f"{'; '.join(said for said, _ in shown)}."
                ),
                spec=_spec([curve for _, curve in shown]),
            )


def _curve(series: Series, scores: ScoreReader) -> tuple[str, dict[str, Any]] | None:
    """Return a model's curve, in words and as values; None where no scores are kept."""
    table = scores.read(series.run, series.record)
    if table is None or not isinstance(table.errors, ReplicaScores) or not np.isfinite(table.errors.stable).any():
        return None
    endings, horizon = endings_of(table.errors)
    seen = endings.within(horizon)
    band = survival_band(seen)
    censored = [int(np.sum(~seen.failed & (seen.times == time))) for time in band.times]
    curve = {
        "time": band.times.tolist(),
        "share": band.survival.tolist(),
        "low": band.low.tolist(),
        "high": band.high.tolist(),
        "censored": censored,
    }
    if seen.failed.all() and band.times[-1] < horizon:  # nobody is left to the end
        curve = {name: [*values, values[-1]] for name, values in curve.items()} | {"censored": [*censored, 0]}
        curve["time"][-1] = horizon
    early = int(np.sum(~seen.failed & (seen.times < horizon)))
    cut = f", {early} not followed to the end" if early else ""
    said = (
        f"{series.model}: {int(seen.failed.sum())} of {seen.times.size} replicas collapsed{cut}, mean time of "
        f"stability {series.said} of {horizon:g} ps"
    )
    return said, {"model": series.model, "horizon": horizon, **curve}


def _spec(values: list[dict[str, Any]]) -> dict[str, Any]:
    end = max(value["horizon"] for value in values)
    x = {"field": "time", "type": "quantitative", "title": "Time (ps)", "scale": {"domain": [0, end], "nice": False}}
    y = {
        "field": "share",
        "type": "quantitative",
        "title": "Stable",
        "axis": {"format": "%"},
        "scale": {"domain": [0, 1]},
    }
    tooltip = [
        {"field": "model", "title": "Model"},
        {"field": "time", "type": "quantitative", "title": "Time (ps)"},
        {"field": "share", "type": "quantitative", "title": "Stable", "format": ".1%"},
        {"field": "low", "type": "quantitative", "title": "95 % from", "format": ".1%"},
        {"field": "high", "type": "quantitative", "title": "to", "format": ".1%"},
        {"field": "censored", "type": "quantitative", "title": "Followed no further"},
    ]
    band = {
        "mark": {"type": "area", "interpolate": "step-after", "opacity": 0.25, "aria": False},
        "encoding": {"x": x, "y": y | {"field": "low"}, "y2": {"field": "high"}},
    }
    steps = {
        "mark": {"type": "line", "interpolate": "step-after"},
        "encoding": {"x": x, "y": y, "tooltip": tooltip},
    }
    marks = {
        "transform": [{"filter": "datum.censored > 0"}],
        "mark": {"type": "point", "shape": "cross", "filled": True, "size": 80, "opacity": 1, "clip": False},
        "encoding": {"x": x, "y": y, "tooltip": tooltip},
    }
    return {
        "data": {"values": values},
        "transform": [{"flatten": ["time", "share", "low", "high", "censored"]}],
        **panels(values),
        "spec": {**_SIZE, "layer": [band, steps, marks]},
    }

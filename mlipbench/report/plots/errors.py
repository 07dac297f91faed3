"""How many structures have errors up to a given size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from mlipbench.comparison.scores import ScoreReader
from mlipbench.metrics.errors import S2EF_METRICS
from mlipbench.report.numbers import format_number
from mlipbench.report.plots.figure import Figure
from mlipbench.report.plots.parts import HEIGHT, WIDTH, models
from mlipbench.report.plots.series import comparisons
from mlipbench.report.text import slug
from mlipbench.status import Task

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mlipbench.report.plots.series import Comparison, Series
    from mlipbench.report.table import Table
    from mlipbench.typing import FloatArray

_POINTS: Final = 200
_LEAST: Final = 0.01  # share of structures from which on the axis shows every model
_DASHES: Final = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [10, 4], [1, 3], [12, 3, 2, 3, 2, 3])
"""One more than colours, so that 42 models look unlike each other."""


class _Kind(NamedTuple):
    """An error of structures.

    Attributes:
        column: Metric whose column decides which models may be compared.
        metric: Metric whose share of each structure is its error.
        words: What it is called.
        rest: What follows the unit of the column.
    """

    column: str
    metric: str
    words: str
    rest: str


_KINDS: Final = (
    _Kind("forces_mae", "forces_mae", "mean |ΔF| of a structure", ""),
    _Kind("energy_mae", "energy_per_atom_mae", "|ΔE| per atom of a structure", "/atom"),
)


def figures(tables: Sequence[Table]) -> Iterator[Figure]:
    """Yield the distribution of errors of forces and of energies on each split, a line a model.

    Args:
        tables: What `build_tables` made of them.

    Raises:
        ResultsError: A file of scores is damaged.
    """
    scores = ScoreReader()
    for kind in _KINDS:
        for comparison in comparisons(tables, Task.S2EF, kind.column):
            found = {series.model: _errors(series, kind, scores) for series in comparison.series}
            known = {model: errors for model, errors in found.items() if errors.size and errors[-1] > 0}
            if known:
                yield _figure(comparison, kind, known)


def _errors(series: Series, kind: _Kind, scores: ScoreReader) -> FloatArray:
    """Return the errors of the structures that have one, in eV and Å, the smallest first."""
    table = scores.read(series.run, series.record)
    if table is None:
        return np.zeros(0)
    numerator, denominator = table.sums(S2EF_METRICS[kind.metric])
    counted = denominator > 0
    return np.sort(numerator[counted] / denominator[counted])


def _figure(comparison: Comparison, kind: _Kind, known: dict[str, FloatArray]) -> Figure:
    unit = f"{comparison.column.unit}{kind.rest}"
    shown = {model: errors * comparison.column.factor for model, errors in known.items()}
    said = "; ".join(
        f"{model}: half of {errors.size:,} structures up to {_up_to(errors, 0.5)}, nine in ten up to "
        f"{_up_to(errors, 0.9)} {unit}"
        for model, errors in shown.items()
    )
    values = [{"model": model, **staircase(errors)} for model, errors in shown.items()]
    return Figure(
        name=slug("error-distribution", kind.column, comparison.name),
        title=f"{comparison.title}: {kind.words}",
        description=(
            f"Share of structures whose error, {kind.words}, is at most the value on the logarithmic axis; a line a "
            f"model, those further left are more accurate. {said}."
        ),
        spec=_spec(values, f"{kind.words[0].upper()}{kind.words[1:]} ({unit})"),
    )


def _up_to(errors: FloatArray, share: float) -> str:
    return format_number(float(errors[int(np.ceil(share * errors.size)) - 1]))


def staircase(errors: FloatArray) -> dict[str, list[float]]:
    """Return points of the empirical distribution: all of them, or as many as a plot can show.

    Errors of 0, which a logarithmic axis does not have, count in the shares of the others.

    Args:
        errors: Shape (n,), not negative, in order.

    Returns:
        ``error``, four significant digits, and ``share``, that of all n structures whose error is at most this. The
        smallest error stands there twice, at first with the share of those below it.
    """
    n = errors.size
    places = np.unique(np.round(np.linspace(0, n - 1, min(n, _POINTS))).astype(np.int64))
    steps = np.unique(errors[places])
    steps = steps[steps > 0]
    smaller, shares = np.searchsorted(errors, steps[:1]) / n, np.searchsorted(errors, steps, side="right") / n
    return {
        "error": [float(f"{value:.4g}") for value in (*steps[:1], *steps)],
        "share": [float(f"{value:.4g}") for value in (*smaller, *shares)],
    }


def _spec(values: list[dict[str, Any]], title: str) -> dict[str, Any]:
    starts = [_first(value["error"], value["share"]) for value in values]
    scale = {"type": "log", "domain": [min(starts), max(value["error"][-1] for value in values)], "nice": False}
    by_model = models(values, "color", "strokeDash")
    return {
        "data": {"values": values},
        "width": WIDTH,
        "height": HEIGHT,
        "transform": [{"flatten": ["error", "share"]}],
        "params": [{"name": "picked", "select": {"type": "point", "fields": ["model"]}, "bind": "legend"}],
        "mark": {"type": "line", "interpolate": "step-after", "clip": True},
        "encoding": {
            "x": {"field": "error", "type": "quantitative", "title": title, "scale": scale},
            "y": {
                "field": "share",
                "type": "quantitative",
                "title": "Share of structures",
                "axis": {"format": "%"},
                "scale": {"domain": [0, 1]},
            },
            "color": by_model["color"],
            "strokeDash": by_model["strokeDash"] | {"scale": by_model["color"]["scale"] | {"range": list(_DASHES)}},
            "opacity": {"condition": {"param": "picked", "value": 1}, "value": 0.15},
            "tooltip": [
                {"field": "model", "title": "Model"},
                {"field": "error", "type": "quantitative", "title": title},
                {"field": "share", "type": "quantitative", "title": "Share of structures", "format": ".1%"},
            ],
        },
    }


def _first(errors: Sequence[float], shares: Sequence[float]) -> float:
    """Return the error from which on the axis shows a model."""
    return next(error for error, share in zip(errors, shares, strict=True) if share >= _LEAST)

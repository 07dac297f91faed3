"""Distributions of distances in simulations over those of the reference trajectory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from mlipbench.report.plots.figure import Figure
from mlipbench.report.plots.series import comparisons, pages, panels, without_distributions
from mlipbench.report.text import clean, slug
from mlipbench.status import Task

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mlipbench.report.plots.series import Comparison, Series
    from mlipbench.report.table import Table
    from mlipbench.store.distributions import PairDistributionRecord

_METRIC: Final = "rdf_mae"
_SIZE: Final = {"width": 220, "height": 180}


def figures(tables: Sequence[Table]) -> Iterator[Figure]:
    """Yield the distributions of all models on each split, a figure for each kind of pairs and a panel a model.

    Args:
        tables: What `build_tables` made of them.

    Raises:
        ResultsError: A file of distributions is damaged.
    """
    for comparison in comparisons(tables, Task.MD, _METRIC):
        by_pairs: dict[str, list[tuple[Series, PairDistributionRecord]]] = {}
        for series in comparison.series:
            kept = series.distributions()
            for curve in kept.pairs if kept is not None else ():
                by_pairs.setdefault(curve.pairs, []).append((series, curve))
        for pairs, known in by_pairs.items():
            for part, shown in pages(known):
                yield _figure(comparison, pairs, shown, part)


def notes(tables: Sequence[Table]) -> Iterator[str]:
    """Say which runs have no distributions.

    Raises:
        ResultsError: A file of distributions is damaged.
    """
    yield from without_distributions(comparisons(tables, Task.MD, _METRIC), "distributions of distances")


def _figure(
    comparison: Comparison, pairs: str, shown: Sequence[tuple[Series, PairDistributionRecord]], part: str
) -> Figure:
    atoms = "all atoms" if pairs == "all" else clean(pairs)
    symbol, unit = ("h(r)", " (1/Å)") if shown[0][1].distribution == "distances" else ("g(r)", "")
    said = "; ".join(
        f"{series.model}: {curve.n_replicas} {'replica' if curve.n_replicas == 1 else 'replicas'}, error {series.said}"
        for series, curve in shown
    )
    return Figure(
        name=slug("distances", comparison.name, pairs, part),
        title=f"{comparison.title}: {symbol} of {atoms}{part and f', part {part}'}",
        description=(
            f"Distribution of distances {symbol}, as MDSim normalises it, of simulations (thin: mean over replicas; "
            f"band: lowest to highest of them) over that of the reference trajectory (thick, grey); one panel a model. "
            f"Errors are those of rdf_mae, of the worst kind of pairs. {said}."
        ),
        spec=_spec(shown, f"{symbol}{unit}"),
    )


def _spec(shown: Sequence[tuple[Series, PairDistributionRecord]], title: str) -> dict[str, Any]:
    values = [{"model": series.model, **curve.model_dump(include={"mean", "low", "high"})} for series, curve in shown]
    known = shown[0][1]
    width = known.limit / len(known.reference)
    x = {"field": "r", "type": "quantitative", "title": "r (Å)", "scale": {"domain": [0, known.limit], "nice": False}}
    y = {"type": "quantitative", "title": title}
    reference = {
        "data": {"values": [{"reference": known.reference}]},
        "transform": _curves(["reference"], [], width),
        "mark": {"type": "line", "style": "guide", "strokeWidth": 4, "strokeDash": [1, 0], "opacity": 0.6},
        "encoding": {"x": x, "y": y | {"field": "reference"}},
    }
    band = {
        "mark": {"type": "area", "opacity": 0.3, "aria": False},
        "encoding": {"x": x, "y": y | {"field": "low"}, "y2": {"field": "high"}},
    }
    mean = {
        "mark": {"type": "line", "strokeWidth": 1.2},
        "encoding": {
            "x": x,
            "y": y | {"field": "mean"},
            "tooltip": [
                {"field": "model", "title": "Model"},
                {"field": "r", "type": "quantitative", "title": "r (Å)", "format": ".3~f"},
                {"field": "mean", "type": "quantitative", "title": title},
                {"field": "low", "type": "quantitative", "title": "Lowest"},
                {"field": "high", "type": "quantitative", "title": "Highest"},
            ],
        },
    }
    return {
        "data": {"values": values},
        "transform": _curves(["mean", "low", "high"], ["model"], width),
        **panels(values),
        "spec": {**_SIZE, "layer": [reference, band, mean]},
    }


def _curves(fields: list[str], by: list[str], width: float) -> list[dict[str, Any]]:
    """Return the transforms that make a row of each bin, with its middle as ``r``."""
    numbered = {"window": [{"op": "row_number", "as": "bin"}], "groupby": by}
    return [{"flatten": fields}, numbered, {"calculate": f"(datum.bin - 0.5) * {width!r}", "as": "r"}]

"""Comparisons of runs as text and as plain data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from mlipbench.comparison.comparing import Verdict
from mlipbench.metrics.catalogue import find_metric
from mlipbench.metrics.values import Direction, Kind
from mlipbench.report.numbers import display_units, format_number
from mlipbench.report.terminal import columns_of
from mlipbench.report.text import clean

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mlipbench.comparison.collect import RunRecord
    from mlipbench.comparison.comparing import ComparedMetric, Comparison
    from mlipbench.comparison.largest import Largest
    from mlipbench.metrics.contrast import Estimate
    from mlipbench.report.numbers import DisplayUnit

CORRECTION: Final = (
    "Change: B - A; relative: (B - A) / A. [ ]: 95 % intervals, each by itself. Verdicts: at 5 % over all metrics "
    "and splits of the two runs together (Holm). Detectable: the smallest difference that a test of it alone at 5 % "
    "finds with a probability of 80 %."
)
_HEAD: Final = (
    "Task",
    "Dataset",
    "Split",
    "Metric",
    "Unit",
    "A",
    "B",
    "Change",
    "Relative",
    "Detectable",
    "n",
    "Clusters",
    "Verdict",
)
_HEAD_LARGEST: Final = ("Task", "Dataset", "Split", "Metric", "Unit", "Structure", "Cluster", "A", "B", "Change")
_ARROWS: Final = {Direction.LOWER: " ↓", Direction.HIGHER: " ↑", Direction.NEITHER: ""}


def to_text(comparison: Comparison) -> str:
    """Return a comparison as text for a terminal: a table, its notes, and the structures that changed most."""
    notes: dict[str, int] = {}
    rows = [_row(row, comparison, notes) for row in comparison.metrics]
    parts = ["\n".join((f"A: {_named(comparison.a)}", f"B: {_named(comparison.b)}")), _table(_HEAD, rows)]
    if notes:
        parts.append("\n".join(f"({number}) {clean(text)}" for text, number in notes.items()))
    if comparison.largest:
        shown = [line for one in comparison.largest for line in structures(one, comparison)]
        parts.extend(["Largest changes of structures by themselves:", _table(_HEAD_LARGEST, shown)])
    tests = f"{comparison.family} tests" if comparison.family != 1 else "1 test"
    return "\n\n".join([*parts, f"{CORRECTION} Here: {tests}."])


def as_dict(comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """Return comparisons with one run as plain data for JSON; numbers are in the units they are stored in.

    Args:
        comparisons: At least one, all with the same run as A.
    """
    return {
        "baseline": _run(comparisons[0].a),
        "intervals": "95 %, uncorrected",
        "verdicts": "5 % over all metrics and splits of a pair of runs (Holm)",
        "detectable": "by a test of one metric at 5 %, with a probability of 80 %",
        "comparisons": [
            {
                "run": _run(one.b),
                "family": one.family,
                "metrics": [_metric(row) for row in one.metrics],
                "largest_changes": [_largest(found) for found in one.largest],
            }
            for one in comparisons
        ],
    }


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = columns_of([[clean(cell) for cell in line] for line in (head, *rows)])
    return "\n".join(line.rstrip() for line in lines)


def _named(run: RunRecord) -> str:
    seed = "" if run.seed is None else f", seed {run.seed}"
    return clean(f"{run.model}, {run.variant}{seed} ({run.directory or run.run_id})")


class Shown(NamedTuple):
    """One comparison of a metric as text; what there is not is empty.

    Attributes:
        unit: Unit of the numbers.
        a: The number of A.
        b: The number of B.
        change: B - A with its interval.
        relative: (B - A) / A with its interval, in percent.
        detectable: What would have been found where nothing was, and its share of A.
    """

    unit: str
    a: str
    b: str
    change: str
    relative: str
    detectable: str


def shown(row: ComparedMetric, comparison: Comparison) -> Shown:
    """Return the numbers of one metric as tables show them."""
    change = row.change
    if change is None:
        return Shown(row.unit, *[""] * 5)
    unit = _unit(row.place, row.unit, [value for value in (change.a, change.b) if value is not None], comparison)
    cells = (_value(change.a, unit), _value(change.b, unit), _signed(change.difference, unit.factor, whole=unit.whole))
    relative = "" if change.relative is None else f"{_signed(change.relative, 100.0)} %"
    return Shown(unit.name, *cells, relative, _detectable(row, unit))


def _row(row: ComparedMetric, comparison: Comparison, notes: dict[str, int]) -> list[str]:
    change = row.change
    marks = ", ".join(str(notes.setdefault(note, len(notes) + 1)) for note in row.notes)
    verdict = f"{row.verdict.value} ({marks})" if marks else row.verdict.value
    title = f"{row.place.metric}{_ARROWS[row.direction]}"
    counts = [str(change.n or ""), str(change.n_clusters or "")] if change else ["", ""]
    return [*row.place[:3], title, *shown(row, comparison), *counts, verdict]


def _detectable(row: ComparedMetric, unit: DisplayUnit) -> str:
    """Return what would have been found where nothing was, and its share of A; empty elsewhere."""
    change = row.change
    if change is None or change.detectable is None or row.verdict is not Verdict.NOT_DISTINGUISHABLE:
        return ""
    share = f" ({format_number(100.0 * change.detectable / change.a)} %)" if change.relative and change.a else ""
    return f"{format_number(change.detectable * unit.factor)}{share}"


def structures(found: Largest, comparison: Comparison) -> Iterable[list[str]]:
    """Yield the structures that changed most, one row each: place, metric, unit, name, cluster, A, B and change."""
    place = (found.task, found.dataset, found.split, found.metric)
    unit = _unit(place, found.unit, [size for one in found.structures for size in (one.a, one.b)], comparison)
    for one in found.structures:
        numbers = [format_number(value * unit.factor) for value in (one.a, one.b)]
        change = f"{'+' if one.change > 0 else ''}{format_number(one.change * unit.factor)}"
        yield [*place, unit.name, one.id, str(one.cluster), *numbers, change]


def _unit(place: tuple[str, ...], unit: str, values: Sequence[float], comparison: Comparison) -> DisplayUnit:
    """Return the first unit that tables would show."""
    manifest = comparison.a.manifest
    definition = find_metric(place[0], place[3])
    kind = Kind.POSITIVE if definition is None else definition.scale.kind
    return display_units(unit, values, manifest.suite.units if manifest else (), kind=kind)[0]


def _value(value: float | None, unit: DisplayUnit) -> str:
    if value is None:
        return ""
    return f"{round(value):,}" if unit.whole else format_number(value * unit.factor)


def _signed(found: Estimate | None, factor: float, *, whole: bool = False) -> str:
    if found is None:
        return ""
    ends = (None if end is None else end * factor for end in (found.low, found.high))
    text = f"{round(found.value):,}" if whole else format_number(found.value * factor, *ends)
    return f"+{text}" if found.value > 0 else text


def _run(run: RunRecord) -> dict[str, Any]:
    path = None if run.directory is None else str(run.directory)
    return {"run_id": run.run_id, "path": path, "model": run.model, "variant": run.variant, "seed": run.seed}


def _metric(row: ComparedMetric) -> dict[str, Any]:
    change = row.change
    return {
        **row.place._asdict(),
        "unit": row.unit,
        "direction": row.direction.value,
        "verdict": row.verdict.value,
        "a": change.a if change else None,
        "b": change.b if change else None,
        "difference": _estimate(change.difference if change else None),
        "relative": _estimate(change.relative if change else None),
        "p": change.p if change else None,
        "p_adjusted": row.p_adjusted,
        "detectable": change.detectable if change else None,
        "n": change.n if change else 0,
        "n_clusters": change.n_clusters if change else 0,
        "differs": [{"field": one.field, "a": one.a, "b": one.b} for one in row.differs],
        "notes": list(row.notes),
    }


def _estimate(found: Estimate | None) -> dict[str, float | None] | None:
    return None if found is None else {"value": found.value, "ci_low": found.low, "ci_high": found.high}


def _largest(found: Largest) -> dict[str, Any]:
    return {
        "task": found.task,
        "dataset": found.dataset,
        "split": found.split,
        "family": found.family,
        "metric": found.metric,
        "unit": found.unit,
        "structures": [
            {"id": one.id, "cluster": one.cluster, "a": one.a, "b": one.b, "change": one.change}
            for one in found.structures
        ],
    }

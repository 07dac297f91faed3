"""The leaderboard as data, for every format it is written in."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mlipbench.metrics.catalogue import find_metric
from mlipbench.metrics.values import Direction, Kind
from mlipbench.report.grouping import groups
from mlipbench.report.notes import Notes, about_data, cell_notes, row_notes, shared_notes, training_facts
from mlipbench.report.numbers import DisplayUnit, display_unit, format_number
from mlipbench.report.ranking import ScoreReader, best
from mlipbench.status import Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlipbench.report.collect import RunRecord
    from mlipbench.report.grouping import Group
    from mlipbench.store.records import MetricRecord

_DIVIDED: Final = "energies or conditions differ between the columns of this split and metric: compare within a column"
_EMPTY: Final = "-"


@dataclass(frozen=True, slots=True)
class Column:
    """One metric on one split under one comparability key.

    Attributes:
        split: Name of the split.
        metric: Name of the metric.
        title: Title of the metric.
        unit: Unit shown; empty for pure numbers.
        direction: Which way the metric improves.
        notes: Numbers of footnotes.
    """

    split: str
    metric: str
    title: str
    unit: str
    direction: Direction
    notes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Cell:
    """One number of a table.

    Attributes:
        text: Number with interval in the unit of the column, or a word.
        best: Whether the model cannot be told apart from the best of the column; False where nothing was compared.
        notes: Numbers of footnotes.
        record: The number as stored; None where the run has none in this column.
    """

    text: str
    best: bool = False
    notes: tuple[int, ...] = ()
    record: MetricRecord | None = None


@dataclass(frozen=True, slots=True)
class TableRow:
    """One run, or one model of a publication.

    Attributes:
        model: Name of the model, with the run's where that is ambiguous.
        variant: Settings, with the seed where several were run.
        cells: One for each column.
        notes: Numbers of footnotes.
    """

    model: str
    variant: str
    cells: tuple[Cell, ...]
    notes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Table:
    """Numbers of one task on one dataset.

    Attributes:
        task: Name of the task.
        dataset: Name of the dataset.
        part: Number of this table among those of the same task and dataset, from 1; 0 where it is the only one.
        columns: Splits and metrics.
        rows: Models, the best of the first column on top.
        footnotes: Texts of the footnotes; number 1 is the first.
        about: Sentences on the data.
    """

    task: str
    dataset: str
    part: int
    columns: tuple[Column, ...]
    rows: tuple[TableRow, ...]
    footnotes: tuple[str, ...]
    about: tuple[str, ...] = ()

    @property
    def ranked(self) -> bool:
        """Whether any model was compared with another."""
        return any(cell.best for row in self.rows for cell in row.cells)


def build_tables(records: Sequence[RunRecord]) -> tuple[Table, ...]:
    """Return the tables of some runs, by task and dataset in the order in which the runs name them.

    Args:
        records: What `collect` found.

    Raises:
        ResultsError: A file of scores is damaged.
    """
    scores = ScoreReader()
    return tuple(_table(group, scores) for group in groups(records))


def _table(group: Group, scores: ScoreReader) -> Table:
    by_run = [group.cells(run) for run in group.runs]
    by_column = list(zip(*by_run, strict=True))
    units = _units(group, by_column)
    shared = [shared_notes(records) for records in by_column]
    bold = [_best(group.runs, records, scores) for records in by_column]
    notes = Notes()
    columns = _columns(group, by_column, units, shared, notes)
    labels = _labels(group.runs, group.dataset)
    rows = []
    for number in sorted(range(len(group.runs)), key=lambda number: _rank(by_run[number], labels[number])):
        model, variant = labels[number]
        marks = notes.add(row_notes(group.runs[number], group.dataset))
        cells = tuple(
            _cell(record, unit, notes.add(_own(record, common)), best=number in winners)
            for record, unit, common, winners in zip(by_run[number], units, shared, bold, strict=True)
        )
        rows.append(TableRow(model, variant, cells, marks))
    return Table(group.task, group.dataset, group.part, columns, tuple(rows), notes.texts, about_data(group))


def _columns(
    group: Group,
    by_column: Sequence[Sequence[MetricRecord | None]],
    units: Sequence[DisplayUnit],
    shared: Sequence[tuple[str, ...]],
    notes: Notes,
) -> tuple[Column, ...]:
    places = Counter((key.split, key.metric) for key in group.columns)
    columns = []
    for key, records, unit, common in zip(group.columns, by_column, units, shared, strict=True):
        definition = find_metric(group.task, key.metric)
        title = definition.title if definition else key.metric
        divided = [_DIVIDED] if places[key.split, key.metric] > 1 else []
        direction = next((record.direction for record in records if record), Direction.LOWER)
        columns.append(Column(key.split, key.metric, title, unit.name, direction, notes.add([*common, *divided])))
    return tuple(columns)


def _units(group: Group, by_column: Sequence[Sequence[MetricRecord | None]]) -> list[DisplayUnit]:
    """Return the unit of every column; one metric has one unit in all of a table."""
    values: dict[str, list[float]] = {}
    stored: dict[str, str] = {}
    for key, records in zip(group.columns, by_column, strict=True):
        for record in records:
            if record is not None:
                stored.setdefault(key.metric, record.unit)
                values.setdefault(key.metric, []).extend([] if record.value is None else [record.value])
    chosen = {
        metric: display_unit(unit, values[metric], fraction=_is_fraction(group.task, metric))
        for metric, unit in stored.items()
    }
    return [chosen[key.metric] for key in group.columns]


def _is_fraction(task: str, metric: str) -> bool:
    definition = find_metric(task, metric)
    return definition is not None and definition.scale.kind is Kind.FRACTION


def _best(runs: Sequence[RunRecord], records: Sequence[MetricRecord | None], scores: ScoreReader) -> frozenset[int]:
    """Return the positions of the runs that cannot be told apart from the best of one column."""
    present = [(number, record) for number, record in enumerate(records) if record is not None]
    chosen = best([(runs[number], record) for number, record in present], scores)
    return frozenset(present[position][0] for position in chosen)


def _cell(record: MetricRecord | None, unit: DisplayUnit, notes: tuple[int, ...], *, best: bool) -> Cell:
    if record is None:
        return Cell(_EMPTY)
    if record.value is None:
        return Cell("n/a" if record.status is Status.NOT_APPLICABLE else "failed", notes=notes, record=record)
    ends = (None if end is None else end * unit.factor for end in (record.ci_low, record.ci_high))
    return Cell(format_number(record.value * unit.factor, *ends), best=best, notes=notes, record=record)


def _own(record: MetricRecord | None, common: Sequence[str]) -> tuple[str, ...]:
    """Return the notes of a number that do not stand at the head of its column."""
    return tuple(note for note in cell_notes(record) if note not in common)


def _labels(runs: Sequence[RunRecord], dataset: str) -> list[tuple[str, str]]:
    """Return model and variant of each run; seed and run stand there only where they tell rows apart."""
    names = [(run.model, _variant(run, dataset)) for run in runs]
    several = {
        name for name in names if len({run.seed for run, own in zip(runs, names, strict=True) if own == name}) > 1
    }
    seeded = [
        (run.model, f"{name[1]}, seed {run.seed}" if name in several and run.seed is not None else name[1])
        for run, name in zip(runs, names, strict=True)
    ]
    taken = Counter(seeded)
    return [
        (f"{label[0]} ({run.run_id})", label[1]) if taken[label] > 1 and run.run_id else label
        for run, label in zip(runs, seeded, strict=True)
    ]


def _variant(run: RunRecord, dataset: str) -> str:
    """Return the settings of a run, and whether its network counts as trained."""
    facts = training_facts(run, dataset)
    return f"{run.variant}, untrained" if facts and not facts["verdict"]["trained"] else run.variant


def _rank(records: Sequence[MetricRecord | None], label: tuple[str, str]) -> tuple[int, bool, float, tuple[str, str]]:
    """Return the sort key of a row: its first number, the best on top and incomplete ones below, then its name."""
    for position, record in enumerate(records):
        if record is not None and record.value is not None and record.direction is not Direction.NEITHER:
            sign = 1.0 if record.direction is Direction.LOWER else -1.0
            return position, record.status is not Status.OK, sign * record.value, label
    return len(records), False, 0.0, label

"""The leaderboard as data, for every format it is written in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from mlipbench.comparison.scores import ScoreReader
from mlipbench.metrics.catalogue import TASK_METRICS, find_metric
from mlipbench.metrics.values import Direction, Kind
from mlipbench.report.distance import distance
from mlipbench.report.grouping import groups
from mlipbench.report.labels import labels_of
from mlipbench.report.notes import (
    Notes,
    about_data,
    about_published,
    cell_notes,
    device_of,
    row_notes,
    shared_notes,
    split_head,
    training_notes,
)
from mlipbench.report.numbers import DisplayUnit, display_units, format_number
from mlipbench.report.ranking import column_ranks
from mlipbench.report.seeds import seed_means
from mlipbench.report.standing import has_value, is_ranked, unranked
from mlipbench.report.verdicts import NOT_CLAIMED, limit, mark, not_claimed
from mlipbench.status import Status, Task, Training

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlipbench.comparison.collect import RunRecord
    from mlipbench.comparison.published import Reference
    from mlipbench.errors import MlipbenchError
    from mlipbench.metrics.ranks import Rank
    from mlipbench.report.grouping import Group
    from mlipbench.store.records import MetricRecord

_DIVIDED: Final = "energies or conditions differ between the columns of this split and metric: compare within a column"
_EMPTY: Final = "-"
_NOT_MEASURED: Final = "not measured"


@dataclass(frozen=True, slots=True)
class Column:
    """One metric on one split under one comparability key, in one unit.

    Attributes:
        split: Name of the split.
        head: What the split is called at the head of the column.
        metric: Name of the metric.
        title: Title of the metric.
        unit: Unit shown; empty for pure numbers.
        direction: Which way the metric improves.
        notes: Numbers of footnotes.
        about: Of costs, what the metric is about.
        conditions: Of times, the device they were measured on.
        factor: What stored numbers are multiplied by to be in `unit`.
        limit: The threshold of the metric in that unit, with its sign; empty where there is none.
    """

    split: str
    head: str
    metric: str
    title: str
    unit: str
    direction: Direction
    notes: tuple[int, ...] = ()
    about: str = ""
    conditions: str = ""
    factor: float = 1.0
    limit: str = ""


@dataclass(frozen=True, slots=True)
class Cell:
    """One number of a table.

    Attributes:
        text: Number with interval in the unit of the column, or a word.
        rank: The ranks that the model can have in the column among those of equal training, 1 for the best; None where
            nothing was compared.
        notes: Numbers of footnotes.
        record: The number as stored; None where the run has none in this column.
        unranked: Why the number was not compared with others, None where it was or is no number.
    """

    text: str
    rank: Rank | None = None
    notes: tuple[int, ...] = ()
    record: MetricRecord | None = None
    unranked: str | None = None

    @property
    def best(self) -> bool:
        """Whether no model of the column was found to be better; False where nothing was compared."""
        return self.rank is not None and self.rank.low == 1


@dataclass(frozen=True, slots=True)
class TableRow:
    """One run, or one model of a publication.

    Attributes:
        model: Name of the model, with the run's where that is ambiguous.
        variant: Settings, with the seed where several were run.
        training: How the training data relate to the splits: one `Training`, or several where the splits differ.
        cells: One for each column.
        notes: Numbers of footnotes.
        unranked: Why none of its numbers was compared with others, None where one was or the reasons differ.
        run: Where the numbers come from.
    """

    model: str
    variant: str
    training: str
    cells: tuple[Cell, ...]
    notes: tuple[int, ...] = ()
    unranked: str | None = None
    run: RunRecord | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """Numbers of one task on one dataset.

    Attributes:
        task: Name of the task.
        dataset: Name of the dataset.
        part: Number of this table among those of the same task and dataset, from 1; 0 where it is the only one.
        columns: Splits and metrics.
        rows: Models, those of one kind of training together, the best of the first column on top.
        footnotes: Texts of the footnotes; number 1 is the first.
        about: Sentences on the data.
        published: Publication and table, if the numbers are published ones; empty for measured ones.
    """

    task: str
    dataset: str
    part: int
    columns: tuple[Column, ...]
    rows: tuple[TableRow, ...]
    footnotes: tuple[str, ...]
    about: tuple[str, ...] = ()
    published: str = ""

    @property
    def heading(self) -> str:
        """What the table is called."""
        if self.published:
            return f"{self.dataset}: {self.task}, published ({self.published})"
        return f"{self.dataset}: {self.task}" + (f", table {self.part}" if self.part else "")

    @property
    def ranked(self) -> bool:
        """Whether any model was compared with another."""
        return any(cell.rank for row in self.rows for cell in row.cells)


def build_tables(records: Sequence[RunRecord], problems: list[MlipbenchError] | None = None) -> tuple[Table, ...]:
    """Return the tables of some runs, by task and dataset in the order in which the runs name them.

    Args:
        records: What `collect` found.
        problems: Takes what is wrong with files of scores, whose numbers are not ranked then; without it damaged ones
            are raised.

    Raises:
        ResultsError: A file of scores is damaged.
    """
    scores = ScoreReader(problems)
    homes: dict[tuple[str, str], Group] = {}
    found = []
    for group in groups((*records, *seed_means(records))):
        if group.reference is not None:
            found.append(_published_table(group, group.reference))
            continue
        home = homes.setdefault((group.task, group.dataset), group)
        distances = [_distances(run, group, records) for run in group.runs]
        found.append(_table(group, home, distances, scores))
    return tuple(found)


def _distances(run: RunRecord, group: Group, records: Sequence[RunRecord]) -> tuple[str | None, ...]:
    """Return how far the numbers of a run are from published ones, in words, None where there is no such one."""
    found = (None if record is None else distance(run, record, records) for record in group.cells(run))
    return tuple(None if one is None else one.words for one in found)


def _table(group: Group, home: Group, distances: Sequence[tuple[str | None, ...]], scores: ScoreReader) -> Table:
    by_run = [group.cells(run) for run in group.runs]
    reasons = unranked(group, by_run, home, scores)
    by_column = list(zip(*by_run, strict=True))
    shared = [shared_notes(records) for records in by_column]
    found = [
        column_ranks(group.runs, *column, scores) for column in zip(by_column, zip(*reasons, strict=True), strict=True)
    ]
    notes = Notes()
    shown = _shown(group, by_column)
    columns = tuple(_column(group, by_column, one, shared[one.number], notes) for one in shown)
    labels = labels_of(group.runs, group.dataset, forces=group.task == Task.EFFICIENCY)
    lines = [
        _Line(
            run,
            labels[number],
            by_run[number],
            reasons[number],
            tuple(ranks_of.get(number) for ranks_of in found),
            distances[number],
        )
        for number, run in enumerate(group.runs)
    ]
    rows = []
    for line in sorted(lines, key=_rank):
        of_row, of_cells = _notes(line, group.dataset, shared)
        marks = notes.add(of_row)
        cells = tuple(
            _cell(line, one, notes.add(of_cells[one.number]), timed=bool(column.conditions))
            for one, column in zip(shown, columns, strict=True)
        )
        rows.append(TableRow(*line.label, _training(line.records), cells, marks, line.unranked, line.run))
    return Table(group.task, group.dataset, group.part, columns, tuple(rows), notes.texts, about_data(group, home))


def _published_table(group: Group, first: Reference) -> Table:
    """Return the rows of a published table as they are printed."""
    notes = Notes()
    columns = []
    for key in group.columns:
        definition = TASK_METRICS[Task(key.task)].definitions[key.metric]
        unit = next(one.unit for one in first.table.columns if one.place == key[:3])
        shown = "" if unit == "1" else unit
        columns.append(Column(key.split, key.split, key.metric, definition.title, shown, definition.direction))
    rows = []
    for run in group.runs:
        if run.reference is not None:
            marks = notes.add([run.reference.row.note] if run.reference.row.note else [])
            records = group.cells(run)
            cells = tuple(_printed(run.reference, record) for record in records)
            rows.append(TableRow(run.reference.row.name, _EMPTY, _training(records), cells, marks, run=run))
    about, source = about_published(first), f"{first.publication.publication}, {first.table.place}"
    return Table(group.task, group.dataset, 0, tuple(columns), tuple(rows), notes.texts, about, source)


def _printed(reference: Reference, record: MetricRecord | None) -> Cell:
    number = None if record is None else reference.number(record)
    return Cell(_EMPTY if number is None else number.text, record=record)


@dataclass(frozen=True, slots=True)
class _Line:
    """A row in the making.

    Attributes:
        run: The run.
        label: Model and variant.
        records: Its number in each column of the group.
        reasons: Why these are not ranked.
        ranks: The ranks that they can have.
        distances: How far they are from published ones, in words.
    """

    run: RunRecord
    label: tuple[str, str]
    records: tuple[MetricRecord | None, ...]
    reasons: tuple[str | None, ...]
    ranks: tuple[Rank | None, ...]
    distances: tuple[str | None, ...]

    @property
    def unranked(self) -> str | None:
        """Why none of its numbers is ranked; None where one is or the reasons differ."""
        pairs = zip(self.records, self.reasons, strict=True)
        found = {reason for record, reason in pairs if has_value(record) and (reason or is_ranked(record))}
        return found.pop() if len(found) == 1 else None


def _notes(
    line: _Line, dataset: str, shared: Sequence[tuple[str, ...]]
) -> tuple[list[str], tuple[tuple[str, ...], ...]]:
    """Return the footnotes of a row, and those of each of its numbers that do not stand at the head of the column."""
    of_training, of_numbers = training_notes(line.records)
    of_row = [*([line.unranked] if line.unranked else []), *row_notes(line.run, dataset), *of_training]
    of_cells = []
    columns = zip(line.records, shared, line.reasons, of_numbers, line.distances, strict=True)
    for record, common, reason, training, far in columns:
        own = [note for note in cell_notes(record) if note not in common]
        said = [None if line.unranked else reason, far, NOT_CLAIMED if not_claimed(line.run, record) else None]
        of_cells.append((*own, *(text for text in said if text), *training))
    return of_row, tuple(of_cells)


class _Shown(NamedTuple):
    """A column of a group in one of its units."""

    number: int
    unit: DisplayUnit


def _column(
    group: Group,
    by_column: Sequence[Sequence[MetricRecord | None]],
    one: _Shown,
    shared: tuple[str, ...],
    notes: Notes,
) -> Column:
    key = group.columns[one.number]
    definition = find_metric(key.task, key.metric)
    title = definition.title if definition else key.metric
    divided = [_DIVIDED] if sum(other[:3] == key[:3] for other in group.columns) > 1 else []
    direction = next((record.direction for record in by_column[one.number] if record), Direction.LOWER)
    marks = notes.add([*shared, *divided])
    conditions = _conditions(group, by_column[one.number]) if definition and definition.timed else ""
    about = definition.about if definition and key.task == Task.EFFICIENCY else ""
    return Column(
        key.split, split_head(group, key.split), key.metric, title, one.unit.name, direction, marks, about, conditions,
        one.unit.factor, limit(key.task, key.metric, one.unit.factor),
    )  # fmt: skip


def _conditions(group: Group, records: Sequence[MetricRecord | None]) -> str:
    """Return what the times of one column were measured on; those with a value have one key, and so one device."""
    present = [
        (record.value is None, device_of(run.manifest))
        for run, record in zip(group.runs, records, strict=True)
        if record is not None and run.manifest is not None
    ]
    return min(present, key=lambda found: found[0], default=(True, ""))[1]


def _shown(group: Group, by_column: Sequence[Sequence[MetricRecord | None]]) -> list[_Shown]:
    """Return every column in every unit; one metric has the same units in all of a table."""
    values: dict[str, list[float]] = {}
    stored: dict[str, str] = {}
    for key, records in zip(group.columns, by_column, strict=True):
        for record in records:
            if record is not None:
                stored.setdefault(key.metric, record.unit)
                values.setdefault(key.metric, []).extend([] if record.value is None else [record.value])
    tasks = {key.metric: key.task for key in group.columns}
    wanted = next((run.manifest.suite.units for run in group.runs if run.manifest and run.manifest.suite.units), ())
    chosen = {
        metric: display_units(unit, values[metric], wanted, kind=_kind(tasks[metric], metric))
        for metric, unit in stored.items()
    }
    return [_Shown(number, unit) for number, key in enumerate(group.columns) for unit in chosen[key.metric]]


def _kind(task: str, metric: str) -> Kind:
    definition = find_metric(task, metric)
    return Kind.POSITIVE if definition is None else definition.scale.kind


def _cell(line: _Line, one: _Shown, notes: tuple[int, ...], *, timed: bool) -> Cell:
    record, unit = line.records[one.number], one.unit
    if record is None:
        return Cell(_NOT_MEASURED if timed else _EMPTY)
    if record.value is None:
        return Cell("n/a" if record.status is Status.NOT_APPLICABLE else "failed", notes=notes, record=record)
    ends = (None if end is None else end * unit.factor for end in (record.ci_low, record.ci_high))
    text = f"{round(record.value):,}" if unit.whole else format_number(record.value * unit.factor, *ends)
    text += mark(line.run, record)
    return Cell(text, line.ranks[one.number], notes, record, line.reasons[one.number])


def _training(records: Sequence[MetricRecord | None]) -> str:
    """Return how the training data of a row relate to its splits, each kind once."""
    return ", ".join(dict.fromkeys(record.relation.value for record in records if record is not None)) or _EMPTY


def _rank(line: _Line) -> tuple[int, int, bool, float, tuple[str, str]]:
    """Return the sort key of a row: kind of training, first number, those without a rank below the others, name."""
    kinds = list(Training)
    for position, (record, reason) in enumerate(zip(line.records, line.reasons, strict=True)):
        if record is not None and record.value is not None and record.direction is not Direction.NEITHER:
            sign = 1.0 if record.direction is Direction.LOWER else -1.0
            return kinds.index(record.relation), position, reason is not None, sign * record.value, line.label
    present = (kinds.index(record.relation) for record in line.records if record is not None)
    return min(present, default=len(kinds)), len(line.records), False, 0.0, line.label

"""The leaderboard as data, for every format it is written in."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from mlipbench.metrics.catalogue import find_metric
from mlipbench.metrics.values import Direction, Kind
from mlipbench.models.interface import ForceKind
from mlipbench.report.grouping import groups
from mlipbench.report.notes import (
    Notes,
    about_data,
    cell_notes,
    device_of,
    row_notes,
    shared_notes,
    split_head,
    training_facts,
    training_notes,
)
from mlipbench.report.numbers import DisplayUnit, display_units, format_number
from mlipbench.report.ranking import ScoreReader, ranks
from mlipbench.report.seeds import seed_means
from mlipbench.status import Status, Task, Training

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlipbench.metrics.ranks import Rank
    from mlipbench.report.collect import RunRecord
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


@dataclass(frozen=True, slots=True)
class Cell:
    """One number of a table.

    Attributes:
        text: Number with interval in the unit of the column, or a word.
        rank: The ranks that the model can have in the column among those of equal training, 1 for the best; None where
            nothing was compared.
        notes: Numbers of footnotes.
        record: The number as stored; None where the run has none in this column.
    """

    text: str
    rank: Rank | None = None
    notes: tuple[int, ...] = ()
    record: MetricRecord | None = None

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
        run: Where its numbers come from.
        notes: Numbers of footnotes.
    """

    model: str
    variant: str
    training: str
    cells: tuple[Cell, ...]
    run: RunRecord
    notes: tuple[int, ...] = ()


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
        return any(cell.rank for row in self.rows for cell in row.cells)


def build_tables(records: Sequence[RunRecord]) -> tuple[Table, ...]:
    """Return the tables of some runs, by task and dataset in the order in which the runs name them.

    Args:
        records: What `collect` found.

    Raises:
        ResultsError: A file of scores is damaged.
    """
    scores = ScoreReader()
    return tuple(_table(group, scores) for group in groups((*records, *seed_means(records))))


def _table(group: Group, scores: ScoreReader) -> Table:
    by_run = [group.cells(run) for run in group.runs]
    by_column = list(zip(*by_run, strict=True))
    shared = [shared_notes(records) for records in by_column]
    ranked = [_ranks(group.runs, records, scores) for records in by_column]
    notes = Notes()
    shown = _shown(group, by_column)
    columns = tuple(_column(group, by_column, one, shared[one.number], notes) for one in shown)
    labels = _labels(group.runs, group.dataset, forces=group.task == Task.EFFICIENCY)
    rows = []
    for number in sorted(range(len(group.runs)), key=lambda number: _rank(by_run[number], labels[number])):
        model, variant = labels[number]
        of_row, of_cells = training_notes(by_run[number])
        marks = notes.add([*row_notes(group.runs[number], group.dataset), *of_row])
        cells = tuple(
            _cell(
                by_run[number][one.number],
                one.unit,
                notes.add([*_own(by_run[number][one.number], shared[one.number]), *of_cells[one.number]]),
                rank=ranked[one.number].get(number),
                timed=bool(column.conditions),
            )
            for one, column in zip(shown, columns, strict=True)
        )
        rows.append(TableRow(model, variant, _training(by_run[number]), cells, group.runs[number], marks))
    return Table(group.task, group.dataset, group.part, columns, tuple(rows), notes.texts, about_data(group))


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
    head = split_head(group, key.split)
    return Column(key.split, head, key.metric, title, one.unit.name, direction, marks, about, conditions)


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


def _ranks(runs: Sequence[RunRecord], records: Sequence[MetricRecord | None], scores: ScoreReader) -> dict[int, Rank]:
    """Return the ranks of the runs among those of their kind in one column, by their positions."""
    kinds: dict[Training, list[tuple[int, MetricRecord]]] = {}
    for number, record in enumerate(records):
        if record is not None and record.relation is not Training.CONTAMINATED:
            kinds.setdefault(record.relation, []).append((number, record))
    found: dict[int, Rank] = {}
    for present in kinds.values():
        positions = ranks([(runs[number], record) for number, record in present], scores)
        found |= {present[position][0]: rank for position, rank in positions.items()}
    return found


def _cell(
    record: MetricRecord | None, unit: DisplayUnit, notes: tuple[int, ...], *, rank: Rank | None, timed: bool
) -> Cell:
    if record is None:
        return Cell(_NOT_MEASURED if timed else _EMPTY)
    if record.value is None:
        return Cell("n/a" if record.status is Status.NOT_APPLICABLE else "failed", notes=notes, record=record)
    ends = (None if end is None else end * unit.factor for end in (record.ci_low, record.ci_high))
    text = f"{round(record.value):,}" if unit.whole else format_number(record.value * unit.factor, *ends)
    return Cell(text, rank, notes, record)


def _own(record: MetricRecord | None, common: Sequence[str]) -> tuple[str, ...]:
    """Return the notes of a number that do not stand at the head of its column."""
    return tuple(note for note in cell_notes(record) if note not in common)


def _labels(runs: Sequence[RunRecord], dataset: str, *, forces: bool) -> list[tuple[str, str]]:
    """Return model and variant of each run; seed and run stand there only where they tell rows apart.

    Beside costs it is said whether forces are a gradient, which costs a backward pass.
    """
    names = [(run.model, _variant(run, dataset) + (_forces(run) if forces else "")) for run in runs]
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


def _forces(run: RunRecord) -> str:
    card = run.manifest.model.card if run.manifest else {}
    kinds = {ForceKind.CONSERVATIVE.value: ", gradient forces", ForceKind.DIRECT.value: ", direct forces"}
    return kinds.get(card.get("capabilities", {}).get("forces"), "")


def _training(records: Sequence[MetricRecord | None]) -> str:
    """Return how the training data of a row relate to its splits, each kind once."""
    return ", ".join(dict.fromkeys(record.relation.value for record in records if record is not None)) or _EMPTY


def _rank(
    records: Sequence[MetricRecord | None], label: tuple[str, str]
) -> tuple[int, int, bool, float, tuple[str, str]]:
    """Return the sort key of a row: kind of training, first number, incomplete ones below complete ones, name."""
    kinds = list(Training)
    for position, record in enumerate(records):
        if record is not None and record.value is not None and record.direction is not Direction.NEITHER:
            sign = 1.0 if record.direction is Direction.LOWER else -1.0
            kind = kinds.index(record.relation)
            return kind, position, record.status is not Status.OK, sign * record.value, label
    kind = min((kinds.index(record.relation) for record in records if record is not None), default=len(kinds))
    return kind, len(records), False, 0.0, label

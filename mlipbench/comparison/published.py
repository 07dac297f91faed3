"""Numbers from publications: what stands in ``results/published/*.yaml``."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Final, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mlipbench.metrics.catalogue import TASK_METRICS
from mlipbench.status import Status, Task, Training
from mlipbench.store.records import MetricRecord
from mlipbench.units import ENERGY
from mlipbench.yamlfile import read_yaml, validate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_Text = Annotated[str, Field(min_length=1)]
_NUMBER: Final = r"(-|-?\d+(\.\d+)?)"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Protocol(_Part):
    """How the numbers of a table were made; with a column's task, split and metric, what a measured one must share.

    Attributes:
        dataset: Name of mlipbench's dataset that holds the same structures and labels.
        description: The protocol in words.
        structures: Structures of the splits, where the publication or its data say how many.
        parameters: By task, those of its parameters that the publication or its code state.
        recipe: Recipe of mlipbench that trains on the same structures; None where there is none.
        n_train: Structures that the models were trained on.
        not_established: What the publication leaves open, so that equal protocols may still differ in it.
    """

    dataset: _Text
    description: _Text
    structures: dict[str, Annotated[int, Field(gt=0)]] = Field(default_factory=dict)
    parameters: dict[Task, dict[str, Any]] = Field(default_factory=dict)
    recipe: str | None = None
    n_train: Annotated[int, Field(gt=0)] | None = None
    not_established: tuple[_Text, ...] = ()


class PublishedColumn(_Part):
    """One metric on one split.

    Attributes:
        task: Name of the task.
        split: Name of the split.
        metric: Name of the metric.
        unit: Unit that the publication prints.
    """

    task: Task
    split: _Text
    metric: _Text
    unit: _Text

    @model_validator(mode="after")
    def _known(self) -> Self:
        definition = TASK_METRICS[self.task].definitions.get(self.metric)
        if definition is None:
            raise ValueError(f"the task {self.task} has no metric {self.metric!r}")
        if self.unit not in _units(definition.unit):
            raise ValueError(f"{self.metric} is in {definition.unit}, and {self.unit!r} is another quantity")
        return self

    @property
    def place(self) -> tuple[str, str, str]:
        """Task, split and metric."""
        return self.task, self.split, self.metric

    @property
    def factor(self) -> Decimal:
        """What a printed value is multiplied by to give the unit of the metric."""
        return _units(TASK_METRICS[self.task].definitions[self.metric].unit)[self.unit]


def _units(stored: str) -> dict[str, Decimal]:
    """Return the units that a metric may be printed in, each with its factor."""
    if not stored.startswith("eV"):
        return {stored: Decimal(1)}
    return {f"{name}{stored.removeprefix('eV')}": Decimal(str(factor)) for name, factor in ENERGY.items()}


class PublishedRow(_Part):
    """The numbers of one model.

    Attributes:
        name: What the publication calls it.
        model: Name of the card of the same model, None where mlipbench has none.
        values: One for each column with the digits that are printed, ``-`` where there is none, spaces between.
        training: How its training data relate to the splits, where that differs from the table's.
        note: What must be known of it.
    """

    name: _Text
    model: str | None = None
    values: Annotated[str, Field(pattern=rf"^{_NUMBER}( {_NUMBER})*$", strict=True)]
    training: Training | None = None
    note: str | None = None

    @property
    def printed(self) -> tuple[str | None, ...]:
        """The values one by one, None where there is none."""
        return tuple(None if text == "-" else text for text in self.values.split(" "))


class PublishedTable(_Part):
    """A table of a publication.

    Attributes:
        name: Name of the table, unique in its file.
        place: Where it stands in the publication.
        protocol: How its numbers were made.
        training: How the models' training data relate to the splits.
        defects: What is known to be wrong with the numbers.
        columns: What the numbers are of.
        rows: The models.
    """

    name: _Text
    place: _Text
    protocol: Protocol
    training: Training
    defects: tuple[_Text, ...] = ()
    columns: Annotated[tuple[PublishedColumn, ...], Field(min_length=1)]
    rows: Annotated[tuple[PublishedRow, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _complete(self) -> Self:
        for row in self.rows:
            if len(row.printed) != len(self.columns):
                raise ValueError(f"{row.name} has {len(row.printed)} values for {len(self.columns)} columns")
        if len({row.name for row in self.rows}) < len(self.rows):
            raise ValueError("two rows have one name")
        if len({one.place for one in self.columns}) < len(self.columns):
            raise ValueError("two columns are the same")
        return self


class Publication(_Part):
    """One file of published numbers.

    Attributes:
        publication: Name, unique among the files.
        citation: Authors, title and place.
        url: Address of the publication.
        tables: Its tables.
    """

    publication: _Text
    citation: _Text
    url: Annotated[str, Field(pattern=r"^https://\S+$")]
    tables: Annotated[tuple[PublishedTable, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _unique(self) -> Self:
        if len({table.name for table in self.tables}) < len(self.tables):
            raise ValueError("two tables have one name")
        return self


@dataclass(frozen=True, slots=True)
class PublishedNumber:
    """One number of a publication.

    Attributes:
        text: The digits that are printed.
        column: What they are of.
    """

    text: str
    column: PublishedColumn

    @property
    def value(self) -> float:
        """The number in the unit of its metric."""
        return float(Decimal(self.text) * self.column.factor)

    @property
    def decimals(self) -> int:
        """How many decimals are printed."""
        return len(self.text.partition(".")[2])


@dataclass(frozen=True, slots=True)
class Reference:
    """One model of one table of a publication.

    Attributes:
        publication: The publication.
        table: The table.
        row: The model.
    """

    publication: Publication
    table: PublishedTable
    row: PublishedRow

    @property
    def citation(self) -> str:
        """Where the numbers stand."""
        return f"{self.publication.citation}, {self.table.place}"

    @property
    def key(self) -> str:
        """Comparability key of the numbers, which no measured one has."""
        return f"published: {self.publication.publication}, {self.table.name}"

    @property
    def metrics(self) -> tuple[MetricRecord, ...]:
        """The numbers, in the units of their metrics."""
        return tuple(self._record(number) for number in self._numbers())

    def number(self, record: MetricRecord) -> PublishedNumber | None:
        """Return what is printed for the task, split and metric of a number; None where nothing is."""
        place = (record.task, record.split, record.metric)
        return next((one for one in self._numbers() if one.column.place == place), None)

    def _numbers(self) -> Iterator[PublishedNumber]:
        for column, text in zip(self.table.columns, self.row.printed, strict=True):
            if text is not None:
                yield PublishedNumber(text, column)

    def _record(self, number: PublishedNumber) -> MetricRecord:
        column = number.column
        definition = TASK_METRICS[column.task].definitions[column.metric]
        return MetricRecord(
            dataset=self.table.protocol.dataset,
            split=column.split,
            task=column.task,
            metric=column.metric,
            value=number.value,
            unit=definition.unit,
            direction=definition.direction,
            n=0 if column.task is Task.MD else self.table.protocol.structures.get(column.split, 0),
            status=Status.OK,
            comparability_key=self.key,
            relation=self.row.training or self.table.training,
        )


def read_publication(path: Path) -> Publication:
    """Read a file of published numbers.

    Raises:
        ConfigError: The file is no YAML of this kind; the line names file, line and field.
        PrerequisiteError: The file cannot be read.
    """
    return validate(Publication, read_yaml(path), path)

"""Per-structure scores of runs, read from their files."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mlipbench.datasets.entry import GAP
from mlipbench.errors import ResultsError
from mlipbench.metrics.catalogue import TASK_METRICS
from mlipbench.metrics.definition import numerator_denominator
from mlipbench.metrics.dynamics import ReplicaScores
from mlipbench.status import Task

if TYPE_CHECKING:
    from pathlib import Path

    from mlipbench.comparison.collect import RunRecord
    from mlipbench.errors import MlipbenchError
    from mlipbench.metrics.catalogue import ScoreColumns
    from mlipbench.metrics.definition import MetricDefinition
    from mlipbench.store.records import MetricRecord
    from mlipbench.typing import AnyArray, BoolArray, FloatArray, IntArray

_COUNTS: Final = ("n_atoms", "n_free", "stress_n")


class ScoreReader:
    """Reads per-structure scores of runs, each file once."""

    def __init__(self, problems: list[MlipbenchError] | None = None) -> None:
        """Start with nothing read.

        Args:
            problems: Takes what is wrong with files; without it damaged ones are raised.
        """
        self._tables: dict[tuple[str, str, str, str], Scores | None] = {}
        self._problems = problems

    def read(self, run: RunRecord, record: MetricRecord) -> Scores | None:
        """Return the scores behind a number, None where there are none.

        Raises:
            ResultsError: The file is damaged, and nobody takes problems.
        """
        kind = TASK_METRICS[Task(record.task)].columns
        if run.directory is None or kind is None or record.split == GAP:
            return None
        place = (record.task, record.dataset, record.split)
        key = (str(run.directory), *place)
        if key not in self._tables:
            path = run.directory.joinpath("scores", *place[:2], f"{record.split}.parquet")
            self._tables[key] = self._scores(path, kind)
        return self._tables[key]

    def _scores(self, path: Path, kind: type[ScoreColumns]) -> Scores | None:
        try:
            if path.is_file():
                return Scores(str(path), kind)
            if self._problems is not None:
                remedy = "rebuild it with `mlipbench score`"
                self._problems.append(ResultsError("there is no such file", file=path, remedy=remedy))
        except ResultsError as error:
            if self._problems is None:
                raise
            self._problems.append(error)
        return None


class Scores:
    """The columns of one file of scores.

    Args:
        path: The file.
        kind: Class of the score columns.

    Raises:
        ResultsError: The file is damaged.

    Attributes:
        index: Shape (n_structures,), places of the structures in their split.
        clusters: Shape (n_structures,), which structures belong together.
        ok: Shape (n_structures,), whether there is a prediction.
    """

    def __init__(self, path: str, kind: type[ScoreColumns]) -> None:
        """Read the file."""
        import pyarrow.parquet as pq

        try:
            table = pq.read_table(path)
            columns = {name: table[name].to_numpy() for name in table.column_names if name != "id"}
            self.index: IntArray = columns["index"].astype(np.int64)
            self.clusters: AnyArray = columns["cluster"]
            self._applicable: BoolArray = columns["energy_applicable"].astype(bool)
            self.ok: BoolArray = columns["ok"].astype(bool)
            self._errors = _score_columns(kind, columns, self.ok)
            self._path = path
        except (OSError, ValueError, KeyError) as error:
            remedy = "rebuild it with `mlipbench score`"
            raise ResultsError(f"damaged scores: {error}", file=path, remedy=remedy) from None

    def rows(self, wanted: IntArray) -> IntArray:
        """Return where structures stand, by their places in the split; all of them must be there."""
        order = np.argsort(self.index, kind="stable")
        found: IntArray = order[np.searchsorted(self.index, wanted, sorter=order)]
        return found

    def replicas(self, rows: IntArray) -> ReplicaScores:
        """Return the scores of some replicas, of simulations.

        Raises:
            TypeError: The scores are not of simulations.
        """
        if not isinstance(self._errors, ReplicaScores):
            raise TypeError("only simulations have replicas")
        return self._errors.taken(rows)

    def sums(self, definition: MetricDefinition[Any]) -> tuple[FloatArray, FloatArray]:
        """Return numerator and denominator of a metric, shape (n_structures,) each."""
        include = self._applicable if definition.needs_one_reference else None
        return numerator_denominator(definition, self._errors, include)

    @property
    def errors(self) -> ScoreColumns:
        """The score columns, NaN where a structure has no prediction."""
        return self._errors

    def names(self, rows: IntArray) -> tuple[str, ...]:
        """Return what some structures are called.

        Args:
            rows: Where they stand in the file.

        Raises:
            ResultsError: The file is damaged.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            return tuple(map(str, pq.read_table(self._path, columns=["id"])["id"].take(rows).to_pylist()))
        except (OSError, pa.ArrowException) as error:
            remedy = "rebuild it with `mlipbench score`"
            raise ResultsError(f"damaged scores: {error}", file=self._path, remedy=remedy) from None


def _score_columns(kind: type[ScoreColumns], columns: dict[str, AnyArray], ok: BoolArray) -> ScoreColumns:
    """Return the columns as the metrics take them; structures that failed have nothing to compare."""
    fields: dict[str, AnyArray] = {}
    for field in dataclasses.fields(kind):
        name = field.name
        if name in _COUNTS:
            counts = np.nan_to_num(np.asarray(columns[name], dtype=np.float64))
            fields[name] = np.where(ok, counts, 0.0).astype(np.int64)
        else:
            values = columns.get(name)
            sums = np.full(ok.shape, np.nan) if values is None else np.asarray(values, dtype=np.float64)
            fields[name] = np.where(ok, sums, np.nan)
    return kind(**fields)

"""Which ranks the models of a column can have."""

from __future__ import annotations

import dataclasses
from functools import reduce
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mlipbench.datasets.entry import GAP
from mlipbench.errors import ResultsError
from mlipbench.metrics.catalogue import TASK_METRICS, find_metric
from mlipbench.metrics.definition import numerator_denominator
from mlipbench.metrics.dynamics import ReplicaScores, rank_replicas
from mlipbench.metrics.ranks import rank_models
from mlipbench.metrics.values import Direction
from mlipbench.status import Source, Task

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mlipbench.errors import MlipbenchError
    from mlipbench.metrics.catalogue import ScoreColumns
    from mlipbench.metrics.definition import MetricDefinition
    from mlipbench.metrics.ranks import Rank
    from mlipbench.report.collect import RunRecord
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


def ranks(candidates: Sequence[tuple[RunRecord, MetricRecord]], scores: ScoreReader) -> dict[int, Rank]:
    """Return the ranks of the candidates by their positions.

    Only measured numbers with scores take part; they must have one comparability key. Fewer than two are not ranked,
    and nothing is where there are too few clusters to tell anything apart.

    Args:
        candidates: Runs with their number in one column of a table, those that may be ranked.
        scores: Where per-structure scores come from.
    """
    rankable: dict[int, Scores] = {}
    for position, (run, record) in enumerate(candidates):
        if run.source is Source.MEASURED:
            table = scores.read(run, record)
            if table is not None:
                rankable[position] = table
    definition = find_metric(candidates[0][1].task, candidates[0][1].metric) if candidates else None
    if definition is None or definition.direction is Direction.NEITHER or definition.timed:
        return {}
    if len(rankable) < 2:  # noqa: PLR2004 - one number has no rank
        return {}
    shared = reduce(np.intersect1d, (table.index for table in rankable.values()))
    if not shared.size:
        return {}
    rows = {position: table.rows(shared) for position, table in rankable.items()}
    if definition.differ is not None:
        replicas = {str(position): rankable[position].replicas(taken) for position, taken in rows.items()}
        return _by_position(rank_replicas(definition, replicas))
    values: dict[str, tuple[FloatArray, FloatArray]] = {}
    clusters: AnyArray = np.zeros(0)
    for position, taken in rows.items():
        numerator, denominator = rankable[position].sums(definition)
        values[str(position)] = (numerator[taken], denominator[taken])
        clusters = rankable[position].clusters[taken]
    return _by_position(rank_models(values, clusters, definition.direction, definition.scale))


def _by_position(found: dict[str, Rank]) -> dict[int, Rank]:
    return {int(position): rank for position, rank in found.items()}


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

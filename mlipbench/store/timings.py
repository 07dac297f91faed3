"""Every raw timing of a run in one Parquet file."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final

from mlipbench.cost import Call, Stage
from mlipbench.errors import ResultsError
from mlipbench.status import Task
from mlipbench.store.files import replacing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mlipbench.store.rundir import RunDirectory

_KEY: Final = ("task", "dataset", "split")


def write_timings(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write the timings of one split.

    Of simulations a row is a stretch between two checkpoints, with the calls of the model in it and the seconds that
    all of it took; where costs are measured it is a `mlipbench.cost.Call`. Of other tasks these columns are null.

    Raises:
        MlipbenchError: The disk is full or the folder cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(
        [
            ("task", pa.string()),
            ("dataset", pa.string()),
            ("split", pa.string()),
            ("batch", pa.int64()),
            ("n_structures", pa.int64()),
            ("n_atoms", pa.int64()),
            ("prepare_seconds", pa.float64()),
            ("forward_seconds", pa.float64()),
            ("cold", pa.bool_()),
            ("maxrss", pa.int64()),
            ("calls", pa.int64()),
            ("seconds", pa.float64()),
            ("stage", pa.string()),
            ("round", pa.int64()),
            ("turn", pa.int64()),
            ("call", pa.int64()),
            ("place", pa.int64()),
            ("cpu_seconds", pa.float64()),
            ("page_faults", pa.int64()),
            ("compile_seconds", pa.float64()),
            ("reference_seconds", pa.float64()),
            ("baseline_seconds", pa.float64()),
            ("peak_allocator", pa.int64()),
            ("peak_memory", pa.int64()),
        ]
    )
    with replacing(path) as temporary:
        pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), temporary)


def merge_timings(directory: RunDirectory) -> None:
    """Join the timings of all splits into ``timings.parquet`` and remove the parts.

    Raises:
        MlipbenchError: The disk is full or the folder cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = directory.timings.with_suffix("")
    parts = sorted(folder.glob("*.parquet"))
    if not parts:
        return
    tables = [pq.read_table(part) for part in parts]
    if directory.timings.exists():
        old = pq.read_table(directory.timings)
        new = {tuple(row[name] for name in _KEY) for table in tables for row in table.slice(0, 1).to_pylist()}
        keys = zip(*(old[name].to_pylist() for name in _KEY), strict=True)
        # a kill may have come between joining the parts and removing them
        tables.insert(0, old.filter(pa.array([key not in new for key in keys], pa.bool_())))
    table = pa.concat_tables(tables, promote_options="default")
    with replacing(directory.timings) as temporary:
        pq.write_table(table, temporary)
    for part in parts:
        part.unlink()
    folder.rmdir()


def read_calls(directory: RunDirectory, dataset: str, split: str) -> list[Call]:
    """Read the timed calls of one split, in the order in which they were made.

    Raises:
        ResultsError: The file is missing or damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = [field.name for field in fields(Call)]
    filters = [("task", "=", Task.EFFICIENCY.value), ("dataset", "=", dataset), ("split", "=", split)]
    try:
        rows = pq.read_table(directory.timings, columns=names, filters=filters).to_pylist()
        return [Call(**{**row, "stage": Stage(row["stage"])}) for row in rows]
    except (OSError, ValueError, TypeError, pa.ArrowException) as error:
        remedy = "measure again with --again"
        raise ResultsError(f"damaged timings: {error}", file=directory.timings, remedy=remedy) from None

"""Predictions of one split: a ledger while it runs, one Parquet file when it is finished."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mlipbench.errors import ResultsError
from mlipbench.protocol import Message
from mlipbench.store.files import replacing
from mlipbench.store.ledger import Ledger
from mlipbench.tasks import OUTPUTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    import pyarrow as pa

    from mlipbench.status import Task
    from mlipbench.tasks import Output
    from mlipbench.typing import AnyArray, IntArray, StrArray

ROW_GROUP_VALUES: Final = 2_000_000  # force or position components of a row group; 8 or 16 MB


class State(IntEnum):
    """What became of one structure."""

    OK = 0
    FAILED = 1
    NOT_APPLICABLE = 2


@dataclass(frozen=True, slots=True, eq=False)
class PredictionBlock:
    """Predictions of consecutive structures.

    Attributes:
        offsets: Shape (n_structures + 1,), atoms of each structure.
        columns: The task's outputs by name, as far as they were asked for; blank where a structure has none.
        state: Shape (n_structures,), `State` of each structure.
        reasons: Why a structure has no prediction, by its place in the block.
    """

    offsets: IntArray
    columns: Mapping[str, AnyArray]
    state: AnyArray
    reasons: Mapping[int, str]

    def __len__(self) -> int:
        """Return the number of structures."""
        return len(self.state)


class SplitStore:
    """Where the predictions of one split of one run are kept, or those of one shard of it.

    Args:
        path: The Parquet file; the ledger stands beside it until that is written.
        counts: Shape (n_structures,), atoms of each structure of the split.
        bounds: Shape (n_batches + 1,), the plan's batches.
        task: The task, which decides the columns.
        batches: The batches of the shard; None takes all.
    """

    def __init__(
        self, path: Path, counts: IntArray, bounds: IntArray, task: Task, batches: range | None = None
    ) -> None:
        """Open the ledger of an unfinished shard."""
        self.path = path
        self._outputs = OUTPUTS[task]
        self._counts = counts
        self._bounds = bounds
        self._batches = range(len(bounds) - 1) if batches is None else batches
        self._positions: dict[int, int] = {}
        self._timings: list[dict[str, Any]] = []
        self._ledger = Ledger(path.with_suffix(".ledger"))
        for position, message in self._ledger.messages():
            self._remember(position, message)

    @property
    def committed(self) -> AbstractSet[int]:
        """Batches that are safe; a live view, so that asking for one batch costs nothing."""
        return self._positions.keys()

    def commit(self, batch: int, block: PredictionBlock, timings: Sequence[Mapping[str, Any]]) -> None:
        """Store one batch.

        Raises:
            MlipbenchError: The disk is full or the file cannot be written.
        """
        arrays: dict[str, AnyArray] = {"state": block.state.astype(np.uint8)}
        for output in self._outputs:
            if output.name in block.columns:
                arrays[output.name] = block.columns[output.name].astype(output.stored, copy=False)
        reasons = {str(place): reason for place, reason in block.reasons.items()}
        header = {"batch": batch, "reasons": reasons, "timings": [dict(row) for row in timings]}
        position = self._ledger.end
        message = Message("batch", header, arrays)
        self._ledger.append(message)
        self._remember(position, message)

    @property
    def timings(self) -> list[dict[str, Any]]:
        """The timings of every committed batch, in order of computation."""
        return self._timings

    def close(self) -> None:
        """Close the ledger and leave it for a later run."""
        self._ledger.close()

    def finish(self, names: Callable[[int, int], StrArray]) -> None:
        """Write the Parquet file in the plan's order and remove the ledger.

        Args:
            names: Returns the names of structures ``start`` to ``stop``.

        Raises:
            ResultsError: A batch is missing.
            MlipbenchError: The disk is full or the file cannot be written.
        """
        import pyarrow.parquet as pq

        missing = len(self._batches) - len(self._positions)
        if missing:
            raise ResultsError(f"{missing} batches were never committed", file=self.path)
        with (
            replacing(self.path) as temporary,
            pq.ParquetWriter(
                temporary, _schema(self._outputs), compression="none", use_dictionary=["state", "reason"], version="2.6"
            ) as writer,
        ):
            for first, last in self._row_groups():
                start, stop = int(self._bounds[first]), int(self._bounds[last])
                block = join([self._block(batch) for batch in range(first, last)])
                writer.write_table(_table(block, self._outputs, start, names(start, stop)))
        self._ledger.close()
        self._ledger.path.unlink()

    def _remember(self, position: int, message: Message) -> None:
        self._positions[int(message.header["batch"])] = position
        self._timings.extend(message.header["timings"])

    def _row_groups(self) -> Iterator[tuple[int, int]]:
        """Group batches so that a row group has about `ROW_GROUP_VALUES` vector components."""
        ends = np.concatenate([[0], np.cumsum(self._counts)])[self._bounds] * 3
        first = self._batches.start
        for last in range(first + 1, self._batches.stop + 1):
            if ends[last] - ends[first] >= ROW_GROUP_VALUES or last == self._batches.stop:
                yield first, last
                first = last

    def _block(self, batch: int) -> PredictionBlock:
        message = self._ledger.read(self._positions[batch])
        counts = self._counts[self._bounds[batch] : self._bounds[batch + 1]]
        return PredictionBlock(
            offsets=np.concatenate([[0], np.cumsum(counts)]),
            columns={name: array for name, array in message.arrays.items() if name != "state"},
            state=message.arrays["state"],
            reasons={int(place): reason for place, reason in message.header["reasons"].items()},
        )


def join(blocks: Sequence[PredictionBlock]) -> PredictionBlock:
    """Join blocks of consecutive structures."""
    counts = np.concatenate([np.diff(block.offsets) for block in blocks])
    reasons: dict[int, str] = {}
    start = 0
    for block in blocks:
        reasons.update({start + place: reason for place, reason in block.reasons.items()})
        start += len(block)
    return PredictionBlock(
        offsets=np.concatenate([[0], np.cumsum(counts)]),
        columns={name: np.concatenate([block.columns[name] for block in blocks]) for name in blocks[0].columns},
        state=np.concatenate([block.state for block in blocks]),
        reasons=reasons,
    )


def read_predictions(path: Path, task: Task) -> Iterator[PredictionBlock]:
    """Read the predictions of a split, one row group at a time.

    Args:
        path: A Parquet file, or a folder with one for each shard, whose names sort in the order of the structures.
        task: What was predicted.

    Raises:
        ResultsError: A file is missing or damaged, or a structure is missing or stands there twice.
    """
    expected = 0
    for file in sorted(path.glob("*.parquet")) if path.is_dir() else [path]:
        for block in read_shard(file, task, expected):
            yield block
            expected += len(block)


def read_shard(path: Path, task: Task, start: int) -> Iterator[PredictionBlock]:
    """Read the Parquet file of one shard, one row group at a time.

    Args:
        path: The file.
        task: What was predicted.
        start: Place of its first structure.

    Raises:
        ResultsError: The file is missing or damaged, or holds other structures.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                table = file.read_row_group(group)
                places = table["index"].to_numpy()
                if not np.array_equal(places, np.arange(start, start + len(places))):
                    raise ResultsError(
                        f"structure {start} is missing, or stands there twice", file=path,
                        remedy="remove the file, and give the command that began the run again",
                    )  # fmt: skip
                yield _from_table(table, OUTPUTS[task])
                start += len(places)
    except FileNotFoundError:
        raise ResultsError("there is no such file", file=path, remedy="the run did not finish this split") from None
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise ResultsError(f"damaged: {error}", file=path) from None


def _schema(outputs: Sequence[Output]) -> pa.Schema:
    import pyarrow as pa

    return pa.schema(
        [
            pa.field("index", pa.int64(), nullable=False),
            pa.field("id", pa.string(), nullable=False),
            pa.field("n_atoms", pa.int32(), nullable=False),
            *(pa.field(output.name, _kind(output)) for output in outputs),
            pa.field("state", pa.string(), nullable=False),
            pa.field("reason", pa.string()),
        ]
    )


def _kind(output: Output) -> pa.DataType:
    """Return the type of a column: a number for each structure, or the list of all its numbers."""
    import pyarrow as pa

    number = pa.from_numpy_dtype(np.dtype(output.stored))
    return number if _is_single(output) else pa.list_(pa.field("element", number, nullable=False))


def _is_single(output: Output) -> bool:
    return output.width is None and not output.per_atom


def _lengths(output: Output, counts: IntArray) -> IntArray:
    """Return how many numbers of a list column each structure has, shape (n_structures,)."""
    return (counts if output.per_atom else np.ones_like(counts)) * (output.width or 1)


def _table(block: PredictionBlock, outputs: Sequence[Output], start: int, names: StrArray) -> pa.Table:
    import pyarrow as pa

    failed = block.state != State.OK
    states = np.asarray([state.name.lower() for state in State])[block.state]
    reasons = np.full(len(block), None, dtype=object)
    for place, reason in block.reasons.items():
        reasons[place] = reason
    counts = np.diff(block.offsets)
    columns = [
        pa.array(np.arange(start, start + len(block))),
        pa.array(names.astype(object), pa.string()),
        pa.array(counts.astype(np.int32)),
        *(_column(output, block.columns.get(output.name), counts, failed) for output in outputs),
        pa.array(states.astype(object), pa.string()),
        pa.array(reasons, pa.string()),
    ]
    return pa.Table.from_arrays(columns, schema=_schema(outputs))


def _column(output: Output, values: AnyArray | None, counts: IntArray, failed: AnyArray) -> pa.Array:
    """Build a column; the numbers of failed structures are null and their lists take no space."""
    import pyarrow as pa

    if values is None:
        return pa.nulls(len(counts), _kind(output))
    if _is_single(output):
        return pa.array(values, mask=failed)
    lengths = _lengths(output, counts)
    flat = np.ascontiguousarray(values).reshape(-1)
    if failed.any():
        flat = flat[np.repeat(~failed, lengths)]
        lengths = np.where(failed, 0, lengths)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    mask = pa.array(failed) if failed.any() else None
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(flat), type=_kind(output), mask=mask)


def _from_table(table: pa.Table, outputs: Sequence[Output]) -> PredictionBlock:
    counts = table["n_atoms"].to_numpy().astype(np.int64)
    state = np.asarray([State[name.upper()] for name in table["state"].to_pylist()], dtype=np.uint8)
    reasons = {i: text for i, text in enumerate(table["reason"].to_pylist()) if text is not None}
    columns = {output.name: _values(table[output.name], output, counts, state) for output in outputs}
    return PredictionBlock(
        offsets=np.concatenate([[0], np.cumsum(counts)]),
        columns={name: values for name, values in columns.items() if values is not None},
        state=state,
        reasons=reasons,
    )


def _values(column: pa.ChunkedArray, output: Output, counts: IntArray, state: AnyArray) -> AnyArray | None:
    """Return the values, blank for structures without any; None where no structure has values."""
    found = column.combine_chunks()
    if found.null_count == len(found) and bool((state == State.OK).any()):
        return None
    filled = output.blank(len(counts), int(counts.sum())).astype(output.stored)
    ok = state == State.OK
    if _is_single(output):
        filled[ok] = found.drop_null().to_numpy(zero_copy_only=False)
    else:
        filled.reshape(-1)[np.repeat(ok, _lengths(output, counts))] = found.flatten().to_numpy()
    return filled

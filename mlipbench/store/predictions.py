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

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    import pyarrow as pa

    from mlipbench.typing import AnyArray, FloatArray, IntArray, StrArray

ROW_GROUP_VALUES: Final = 2_000_000  # force components of a row group; 8 MB


class State(IntEnum):
    """What became of one structure."""

    OK = 0
    FAILED = 1
    NOT_APPLICABLE = 2


@dataclass(frozen=True, slots=True, eq=False)
class PredictionBlock:
    """Predictions of consecutive structures, at the precision at which they are stored.

    Attributes:
        offsets: Shape (n_structures + 1,), atoms of each structure.
        energy: Shape (n_structures,), eV, NaN where there is none.
        forces: Shape (n_atoms, 3), eV/Å, float32, NaN where there are none; None where not asked for.
        stress: Shape (n_structures, 6), eV/Å³, float32, or None where not asked for.
        state: Shape (n_structures,), `State` of each structure.
        reasons: Why a structure has no prediction, by its place in the block.
    """

    offsets: IntArray
    energy: FloatArray
    forces: AnyArray | None
    stress: AnyArray | None
    state: AnyArray
    reasons: Mapping[int, str]

    def __len__(self) -> int:
        """Return the number of structures."""
        return len(self.energy)


class SplitStore:
    """Where the predictions of one split of one run are kept.

    Args:
        path: The Parquet file; the ledger stands beside it until that is written.
        counts: Shape (n_structures,), atoms of each structure.
        bounds: Shape (n_batches + 1,), the plan's batches.
    """

    def __init__(self, path: Path, counts: IntArray, bounds: IntArray) -> None:
        """Open the ledger of an unfinished split."""
        self.path = path
        self._counts = counts
        self._bounds = bounds
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
        arrays: dict[str, AnyArray] = {"energy": block.energy, "state": block.state.astype(np.uint8)}
        if block.forces is not None:
            arrays["forces"] = block.forces.astype(np.float32, copy=False)
        if block.stress is not None:
            arrays["stress"] = block.stress.astype(np.float32, copy=False)
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

        missing = len(self._bounds) - 1 - len(self._positions)
        if missing:
            raise ResultsError(f"{missing} batches were never committed", file=self.path)
        with (
            replacing(self.path) as temporary,
            pq.ParquetWriter(
                temporary, _schema(), compression="none", use_dictionary=["state", "reason"], version="2.6"
            ) as writer,
        ):
            for first, last in self._row_groups():
                start, stop = int(self._bounds[first]), int(self._bounds[last])
                block = join([self._block(batch) for batch in range(first, last)])
                writer.write_table(_table(block, start, names(start, stop)))
        self._ledger.close()
        self._ledger.path.unlink()

    def _remember(self, position: int, message: Message) -> None:
        self._positions[int(message.header["batch"])] = position
        self._timings.extend(message.header["timings"])

    def _row_groups(self) -> Iterator[tuple[int, int]]:
        """Group batches so that a row group has about `ROW_GROUP_VALUES` force components."""
        ends = np.concatenate([[0], np.cumsum(self._counts)])[self._bounds] * 3
        first = 0
        for last in range(1, len(self._bounds)):
            if ends[last] - ends[first] >= ROW_GROUP_VALUES or last == len(self._bounds) - 1:
                yield first, last
                first = last

    def _block(self, batch: int) -> PredictionBlock:
        message = self._ledger.read(self._positions[batch])
        counts = self._counts[self._bounds[batch] : self._bounds[batch + 1]]
        return PredictionBlock(
            offsets=np.concatenate([[0], np.cumsum(counts)]),
            energy=message.arrays["energy"].astype(np.float64, copy=False),
            forces=message.arrays.get("forces"),
            stress=message.arrays.get("stress"),
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
    first = blocks[0]
    return PredictionBlock(
        offsets=np.concatenate([[0], np.cumsum(counts)]),
        energy=np.concatenate([block.energy for block in blocks]),
        forces=None if first.forces is None else np.concatenate([block.forces for block in blocks]),
        stress=None if first.stress is None else np.concatenate([block.stress for block in blocks]),
        state=np.concatenate([block.state for block in blocks]),
        reasons=reasons,
    )


def read_predictions(path: Path) -> Iterator[PredictionBlock]:
    """Read a Parquet file of predictions, one row group at a time.

    Raises:
        ResultsError: The file is missing or damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                yield _from_table(file.read_row_group(group))
    except FileNotFoundError:
        raise ResultsError("there is no such file", file=path, remedy="the run did not finish this split") from None
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise ResultsError(f"damaged: {error}", file=path) from None


def _schema() -> pa.Schema:
    import pyarrow as pa

    return pa.schema(
        [
            pa.field("index", pa.int64(), nullable=False),
            pa.field("id", pa.string(), nullable=False),
            pa.field("n_atoms", pa.int32(), nullable=False),
            pa.field("energy", pa.float64()),
            pa.field("forces", pa.list_(pa.field("element", pa.float32(), nullable=False))),
            pa.field("stress", pa.list_(pa.field("element", pa.float32(), nullable=False))),
            pa.field("state", pa.string(), nullable=False),
            pa.field("reason", pa.string()),
        ]
    )


def _table(block: PredictionBlock, start: int, names: StrArray) -> pa.Table:
    import pyarrow as pa

    counts = np.diff(block.offsets)
    failed = block.state != State.OK
    states = np.asarray([state.name.lower() for state in State])[block.state]
    reasons = np.full(len(block), None, dtype=object)
    for place, reason in block.reasons.items():
        reasons[place] = reason
    width = np.full(len(block), 6)
    columns = [
        pa.array(np.arange(start, start + len(block))),
        pa.array(names.astype(object), pa.string()),
        pa.array(counts.astype(np.int32)),
        pa.array(block.energy, mask=failed),
        _lists(None if block.forces is None else block.forces, counts * 3, failed),
        _lists(None if block.stress is None else block.stress, width, failed),
        pa.array(states.astype(object), pa.string()),
        pa.array(reasons, pa.string()),
    ]
    return pa.Table.from_arrays(columns, schema=_schema())


def _lists(values: AnyArray | None, lengths: IntArray, failed: AnyArray) -> pa.Array:
    """Build a list column; the lists of failed structures are null and take no space."""
    import pyarrow as pa

    kind = pa.list_(pa.field("element", pa.float32(), nullable=False))
    if values is None:
        return pa.nulls(len(lengths), kind)
    flat = np.ascontiguousarray(values, dtype=np.float32).reshape(-1)
    if failed.any():
        flat = flat[np.repeat(~failed, lengths)]
        lengths = np.where(failed, 0, lengths)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    mask = pa.array(failed) if failed.any() else None
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(flat), type=kind, mask=mask)


def _from_table(table: pa.Table) -> PredictionBlock:
    counts = table["n_atoms"].to_numpy().astype(np.int64)
    state = np.asarray([State[name.upper()] for name in table["state"].to_pylist()], dtype=np.uint8)
    reasons = {i: text for i, text in enumerate(table["reason"].to_pylist()) if text is not None}
    forces = _values(table["forces"], counts * 3, state)
    stress = _values(table["stress"], np.full(len(counts), 6), state)
    return PredictionBlock(
        offsets=np.concatenate([[0], np.cumsum(counts)]),
        energy=table["energy"].to_numpy().astype(np.float64),
        forces=None if forces is None else forces.reshape(-1, 3),
        stress=None if stress is None else stress.reshape(-1, 6),
        state=state,
        reasons=reasons,
    )


def _values(column: pa.ChunkedArray, lengths: IntArray, state: AnyArray) -> AnyArray | None:
    """Return the flat values with NaN for structures without any; None where no structure has values."""
    lists = column.combine_chunks()
    if lists.null_count == len(lists) and bool((state == State.OK).any()):
        return None
    flat = np.full(int(lengths.sum()), np.nan, dtype=np.float32)
    flat[np.repeat(state == State.OK, lengths)] = lists.flatten().to_numpy()
    return flat

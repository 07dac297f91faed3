"""A sparse matrix that may hold several entries at one place, with the names and conventions of torch-sparse 0.6."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(slots=True)
class _Storage:
    """The entries, sorted by row and column; entries of one place keep their order."""

    rows: Tensor
    cols: Tensor
    values: Tensor | None

    def row(self) -> Tensor:
        """Return the row of each entry."""
        return self.rows

    def col(self) -> Tensor:
        """Return the column of each entry."""
        return self.cols

    def value(self) -> Tensor | None:
        """Return the value of each entry, None where the matrix holds none."""
        return self.values


class SparseTensor:
    """A sparse matrix in coordinate form.

    Args:
        row: Shape (n_entries,), row of each entry.
        col: Shape (n_entries,), column of each entry.
        value: Shape (n_entries, ...), value of each entry, or None.
        sparse_sizes: Number of rows and of columns.
    """

    def __init__(self, row: Tensor, col: Tensor, value: Tensor | None, sparse_sizes: tuple[int, int]) -> None:
        """Sort the entries."""
        place = row * sparse_sizes[1] + col
        if not bool((place[1:] >= place[:-1]).all()):
            order = torch.sort(place, stable=True).indices
            row, col, value = row[order], col[order], None if value is None else value[order]
        self.storage = _Storage(row, col, value)
        self._sizes = sparse_sizes

    def sparse_sizes(self) -> tuple[int, int]:
        """Return the number of rows and of columns."""
        return self._sizes

    def coo(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return row, column and value of each entry."""
        return self.storage.rows, self.storage.cols, self.storage.values

    def set_value(self, value: Tensor | None, layout: str | None = None) -> SparseTensor:
        """Return a matrix with other values at the same places; ``coo`` is their only layout."""
        del layout
        return SparseTensor(self.storage.rows, self.storage.cols, value, self._sizes)

    def set_value_(self, value: Tensor | None, layout: str | None = None) -> SparseTensor:
        """Replace the values; ``coo`` is their only layout."""
        del layout
        self.storage.values = value
        return self

    def sum(self, dim: int) -> Tensor:
        """Return the sum of each row (``dim=1``), an entry without value counting one.

        Raises:
            ValueError: Another dimension is asked for.
        """
        if dim != 1:
            raise ValueError("rows alone can be summed")
        rows, values = self.storage.rows, self.storage.values
        if values is None:
            return torch.bincount(rows, minlength=self._sizes[0])
        return values.new_zeros((self._sizes[0], *values.shape[1:])).index_add(0, rows, values)

    def __getitem__(self, index: Tensor) -> SparseTensor:
        """Return the rows at `index`, in its order and as often as they stand in it."""
        rows, cols, values = self.coo()
        counts = torch.bincount(rows, minlength=self._sizes[0])
        starts = counts.cumsum(0) - counts
        taken = counts[index]
        new_rows = torch.arange(len(index), device=rows.device).repeat_interleave(taken)
        within = torch.arange(len(new_rows), device=rows.device) - (taken.cumsum(0) - taken).repeat_interleave(taken)
        entries = starts[index].repeat_interleave(taken) + within
        picked = None if values is None else values[entries]
        return SparseTensor(new_rows, cols[entries], picked, (len(index), self._sizes[1]))

"""Energies relative to each other within a cluster, which no reference energy enters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from mlipbench.structures.columnar import Split
    from mlipbench.typing import FloatArray, IntArray


def relative_errors(errors: FloatArray, split: Split) -> FloatArray:
    """Return errors of energies minus the mean error of the structures of the same cluster and composition.

    Args:
        errors: Shape (n_structures,), eV, of the first structures of the split; NaN where there are none.
        split: The data.

    Returns:
        Shape (n_structures,), eV; NaN where there is no error, or no other one to compare it with.
    """
    codes = _groups(split, len(errors))
    known = ~np.isnan(errors)
    counts = np.bincount(codes[known], minlength=codes.max(initial=-1) + 1)
    sums = np.bincount(codes[known], weights=errors[known], minlength=len(counts))
    compared = known & (counts[codes] > 1)
    found = np.full(len(errors), np.nan)
    found[compared] = errors[compared] - (sums / np.maximum(counts, 1))[codes[compared]]
    return found


def _groups(split: Split, size: int) -> IntArray:
    """Return shape (size,), a number for each structure that those of its cluster and composition share."""
    marks = np.random.PCG64(0).random_raw(256)  # of atomic numbers; sums of them tell compositions apart
    compositions = np.empty(size, dtype=np.uint64)
    for start, stop in split.chunks():
        last = min(stop, size)
        if start < last:
            batch = split.structures(start, last)
            compositions[start:last] = np.add.reduceat(marks[batch.numbers], batch.offsets[:-1])
    pairs = np.stack([np.asarray(split.clusters[:size]).astype(np.uint64), compositions], axis=1)
    codes: IntArray = np.unique(pairs, axis=0, return_inverse=True)[1].reshape(-1)
    return codes

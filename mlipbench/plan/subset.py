"""Which structures of a split stand for all of them where only some are wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from mlipbench.structures.columnar import Split
    from mlipbench.typing import IntArray

SUBSET_SEED: Final = 0


def stratified(split: Split, wanted: int) -> IntArray:
    """Draw structures so that sizes and clusters have the shares that they have in the whole split.

    A systematic sample (Cochran, Sampling Techniques, chapter 8): structures stand in the order of their numbers of
    atoms, within these of their clusters, and every ``n / wanted``-th is taken from a random start. Each structure has
    the same chance, so that means over the sample estimate those over the split.

    Args:
        split: The split.
        wanted: Structures to draw, no more than it has.

    Returns:
        Shape (wanted,), places in the split, rising.
    """
    size = split.n_structures
    # raw output of the bit generator: unlike numbers made from it, it may not change between numpy versions
    start = int(np.random.PCG64(SUBSET_SEED).random_raw()) / 2**64
    order = np.lexsort((split.clusters, split.counts))
    return np.sort(order[((np.arange(wanted) + start) * (size / wanted)).astype(np.int64)])


def described(wanted: int, size: int) -> str:
    """Return what a sample is called in tables; it names the sample, given the split."""
    return f"{wanted} of {size}, stratified, seed {SUBSET_SEED}"

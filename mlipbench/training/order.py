"""The order in which structures are learned from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from mlipbench.typing import IntArray


class Order:
    """Which structures each optimiser step takes: a pure function of seed and step.

    Every epoch goes through a new permutation; its last batch may be smaller.

    Args:
        n: Number of structures.
        batch: Structures of a step; all where there are fewer.
        seed: Seed of the permutations.
    """

    def __init__(self, n: int, batch: int, seed: int) -> None:
        """Remember the sizes."""
        self._n = n
        self._batch = min(batch, n)
        self._seed = seed
        self.steps_per_epoch = -(-n // self._batch)
        self._epoch = -1
        self._permutation: IntArray = np.zeros(0, dtype=np.int64)

    def members(self, step: int) -> IntArray:
        """Return the structures of a step, counted from 0."""
        epoch, place = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            # sorted raw output of the bit generator: unlike Generator.permutation it may not change between versions
            raw = np.random.PCG64([self._seed, epoch]).random_raw(self._n)
            self._permutation, self._epoch = np.argsort(raw, kind="stable"), epoch
        return self._permutation[place * self._batch : (place + 1) * self._batch]

"""An adapter against its package's own calculator in a loop, over 64 slabs, one by one and in batches.

On one processor core a batch of a network of triplets is no faster than its structures one by one, so that the better
of the two has to keep up with the calculator.
"""

from __future__ import annotations

import os
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from ase.build import add_adsorbate, fcc111, molecule
from conftest import interleaved, median_ratio

from mlipbench.models.interface import Property
from mlipbench.structures import StructureBatch

if TYPE_CHECKING:
    from ase import Atoms

    from mlipbench.models.interface import Adapter

SLABS = int(os.environ.get("MLIPBENCH_BENCHMARK_SLABS", "64"))
BATCHES = (1, 16)
PROPERTIES = frozenset({Property.ENERGY, Property.FORCES})


def slabs(n: int = SLABS) -> list[Atoms]:
    """Return CO on Cu(111), 38 atoms, each rattled differently, with OC20's tags."""
    rng = np.random.default_rng(0)
    clean = fcc111("Cu", (3, 3, 4), vacuum=7.0)
    add_adsorbate(clean, molecule("CO"), 1.9, "ontop")
    clean.set_tags(
        np.where(np.isin(clean.numbers, [6, 8]), 2, clean.positions[:, 2] > clean.positions[:36, 2].max() - 1)
    )
    clean.pbc = True
    found = []
    for _ in range(n):
        found.append(clean.copy())
        found[-1].positions += rng.normal(0, 0.05, clean.positions.shape)
    return found


def compare(benchmark, adapter: Adapter, calculator: object, rounds: int = 3) -> float:
    """Time them in turn on equal threads; store structures/s, and return how many times as fast the better batch is."""
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    frames = slabs()
    batch = StructureBatch.from_atoms(frames)
    energies: dict[str | int, np.ndarray] = {}

    def batches(size: int) -> None:
        cuts = [*range(0, len(frames), size), len(frames)]
        found = [adapter.predict(batch.slice(start, stop), PROPERTIES).energy for start, stop in pairwise(cuts)]
        energies[size] = np.concatenate(found)

    def loop() -> None:
        found = []
        for atoms in frames:
            atoms.calc = calculator
            found.append(atoms.get_potential_energy())
            atoms.get_forces()
            calculator.reset()
        energies["loop"] = np.array(found)

    *ours, theirs = interleaved(rounds, *(partial(batches, size) for size in BATCHES), loop)
    benchmark.pedantic(batches, args=(BATCHES[-1],), rounds=1)
    benchmark.extra_info["structures_per_second_of_the_loop"] = len(frames) / float(np.median(theirs))
    for size, seconds in zip(BATCHES, ours, strict=True):
        np.testing.assert_allclose(energies[size], energies["loop"], rtol=1e-5, atol=1e-5 * len(frames[0]))
        benchmark.extra_info[f"structures_per_second_by_{size}"] = len(frames) / float(np.median(seconds))
        benchmark.extra_info[f"times_as_fast_by_{size}"] = 1 / median_ratio(seconds, theirs)
    return max(1 / median_ratio(seconds, theirs) for seconds in ours)

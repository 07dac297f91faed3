"""An adapter's batches against its package's own calculator in a loop, over 64 slabs."""

from __future__ import annotations

import os
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
BATCH = 16
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
    """Time both in turn on equal threads; store structures/s of both and return how many times as fast batches are."""
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    frames = slabs()
    batch = StructureBatch.from_atoms(frames)
    cuts = [*range(0, len(frames), BATCH), len(frames)]
    energies: dict[str, np.ndarray] = {}

    def batches() -> None:
        found = [adapter.predict(batch.slice(start, stop), PROPERTIES).energy for start, stop in pairwise(cuts)]
        energies["batches"] = np.concatenate(found)

    def loop() -> None:
        found = []
        for atoms in frames:
            atoms.calc = calculator
            found.append(atoms.get_potential_energy())
            atoms.get_forces()
            calculator.reset()
        energies["loop"] = np.array(found)

    ours, theirs = interleaved(rounds, batches, loop)
    np.testing.assert_allclose(energies["batches"], energies["loop"], rtol=1e-5, atol=1e-5 * len(frames[0]))
    benchmark.pedantic(batches, rounds=1)
    benchmark.extra_info["structures_per_second"] = len(frames) / float(np.median(ours))
    benchmark.extra_info["structures_per_second_of_the_loop"] = len(frames) / float(np.median(theirs))
    benchmark.extra_info["times_as_fast"] = 1 / median_ratio(ours, theirs)
    return 1 / median_ratio(ours, theirs)

"""Looking for structures that stand in two places, in a split of a million."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from conftest import ATOMS, GIB, N_STRUCTURES, peak_memory, synthetic_piece

from mlipbench.datasets.writer import ColumnarWriter
from mlipbench.structures.columnar import Split

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.benchmark

FRAMES = 40  # of one relaxation, each a step of 0.003 Å in every coordinate from the one before
PIECE = 10_000
LOOK = """
import sys, time
from pathlib import Path
import numpy as np
from mlipbench.structures.columnar import Split
from mlipbench.structures.duplicates import found_in, repeated
split = Split(Path(sys.argv[1]))
start = time.process_time()
n_repeated = repeated(split).sum()
fifth = np.arange(0, len(split), 5)
n_found = found_in(split, split, fifth).sum()
print(n_repeated, n_found, time.process_time() - start)
"""


def relaxations(folder: Path, n_structures: int) -> Split:
    """Write frames of relaxations."""
    with ColumnarWriter(folder) as writer:
        for start in range(0, n_structures, PIECE):
            structures, labels, names = synthetic_piece(PIECE, start)
            rng = np.random.default_rng(start)
            shape = (PIECE // FRAMES, FRAMES, ATOMS, 3)
            numbers = np.repeat(structures.numbers.reshape(-1, ATOMS)[::FRAMES], FRAMES, axis=0)
            first = structures.positions.reshape(shape)[:, :1]
            positions = first + np.cumsum(rng.normal(scale=0.003, size=shape), axis=1)
            frames = replace(structures, numbers=numbers.ravel(), positions=positions.reshape(-1, 3))
            writer.append(frames, labels, names)
    return Split(folder)


def looked(folder: Path) -> tuple[int, int, float, int]:
    """Return structures repeated and found, processor seconds, and the largest anonymous memory in bytes."""
    child = subprocess.Popen([sys.executable, "-c", LOOK, str(folder)], stdout=subprocess.PIPE, text=True)
    peak = peak_memory(child)
    said, _ = child.communicate()
    n_repeated, n_found, seconds = said.split()
    return int(n_repeated), int(n_found), float(seconds), peak


@pytest.mark.timeout(3000)
def test_time_per_structure_stays_and_memory_is_bounded(benchmark, tmp_path):
    seconds, memory = {}, {}

    def run() -> None:
        for n in (PIECE, N_STRUCTURES):
            folder = tmp_path / str(n)
            relaxations(folder, n)
            n_repeated, n_found, seconds[n], memory[n] = looked(folder)
            assert (n_repeated, n_found) == (0, n // 5)

    benchmark.pedantic(run, rounds=1)
    each = {n: spent / n * 1e6 for n, spent in seconds.items()}
    benchmark.extra_info["microseconds_per_structure"] = each
    benchmark.extra_info["anonymous_mib"] = {n: peak / 2**20 for n, peak in memory.items()}
    assert memory[N_STRUCTURES] < GIB
    assert each[N_STRUCTURES] < 3 * each[PIECE]

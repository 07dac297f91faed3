"""What the benchmarks share: synthetic splits, workers, and interleaved timing."""

from __future__ import annotations

import os
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pytest

from mlipbench.datasets.writer import ColumnarWriter
from mlipbench.execution.client import WorkerSpec, loaded_client
from mlipbench.execution.evaluate import Predictor
from mlipbench.execution.requests import LoadModel
from mlipbench.plan.shards import Shard
from mlipbench.structures import StructureBatch
from mlipbench.structures.columnar import Labels, Split

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from mlipbench.plan import PlannedSplit

N_STRUCTURES = int(os.environ.get("MLIPBENCH_BENCHMARK_STRUCTURES", "1000000"))
GIB = 2**30
ATOMS = 73  # the mean size of OC20's structures


ENTRY = {
    "name": "large",
    "title": "Synthetic",
    "licence": "MIT",
    "citation": "none",
    "level_of_theory": "none",
    "units": {"energy": "eV", "forces": "eV/A", "length": "A"},
    "root": "data",
}
CARD = {"name": "null", "adapter": "mlipbench.testing.toys:NullAdapter", "environment": "base"}
CAPABILITIES = {"forces": "conservative", "elements": "1-94", "level_of_theory": "none"}
SUITE = {
    "suite": "large",
    "version": 1,
    "models": ["null.yaml"],
    "datasets": {"large": {"entry": "large.yaml", "splits": ["all"]}},
}
"""What a benchmark of the whole command line runs; each adds what is its own."""


def small_clusters(seed: int) -> StructureBatch:
    """Return four structures of two atoms, for models whose time does not depend on them."""
    return StructureBatch(
        numbers=np.full(8, 29),
        positions=np.random.default_rng(seed).uniform(0, 9, (8, 3)),
        cell=np.zeros((4, 3, 3)),
        pbc=np.zeros((4, 3), dtype=bool),
        offsets=np.arange(5) * 2,
    )


def busy_predictor(log: Path, work: int) -> Predictor:
    """Return what keeps a worker with a model that does so much work in each call."""
    spec = WorkerSpec(python=Path(sys.executable), log=log)
    model = LoadModel(adapter="mlipbench.testing.toys:BusyAdapter", kwargs={"work": work})
    return Predictor(lambda: loaded_client(spec, model))


def synthetic_piece(n_structures: int, seed: int) -> tuple[StructureBatch, Labels, list[str]]:
    """Return structures of 73 atoms in a slab's cell, labels, and clusters of 40 frames."""
    rng = np.random.default_rng(seed)
    n_atoms = n_structures * ATOMS
    structures = StructureBatch(
        numbers=rng.integers(1, 80, n_atoms),
        positions=rng.uniform(0, 12, (n_atoms, 3)),
        cell=np.broadcast_to(np.diag([12.0, 12.0, 30.0]), (n_structures, 3, 3)),
        pbc=np.ones((n_structures, 3), dtype=bool),
        offsets=np.arange(n_structures + 1) * ATOMS,
        fixed=rng.random(n_atoms) < 0.5,
        id=np.asarray([f"random{seed}_{i}" for i in range(n_structures)]),
    )
    labels = Labels(energy=rng.normal(size=n_structures), forces=rng.normal(size=(n_atoms, 3)))
    return structures, labels, [f"random{seed}_{i // 40}" for i in range(n_structures)]


def synthetic_split(directory: Path, n_structures: int, piece: int = 10_000) -> Split:
    """Write a split of any size in pieces and open it."""
    with ColumnarWriter(directory) as writer:
        for start in range(0, n_structures, piece):
            writer.append(*synthetic_piece(min(piece, n_structures - start), start))
    return Split(directory, "synthetic", "all")


def whole_shard(plan: PlannedSplit) -> Shard:
    """Return a split as one shard."""
    return Shard(1, 1, range(plan.n_batches), 0, plan.n_structures, "000000000-whole")


def interleaved(rounds: int, *candidates: Callable[[], object]) -> list[list[float]]:
    """Time the candidates in turn, after one round that does not count; return the seconds of each, by candidate."""
    seconds: list[list[float]] = [[] for _ in candidates]
    for number in range(rounds + 1):
        for place, candidate in enumerate(candidates):
            start = time.perf_counter()
            candidate()
            if number:
                seconds[place].append(time.perf_counter() - start)
    return seconds


def median_ratio(first: list[float], second: list[float]) -> float:
    """Return the median of the ratios of neighbouring rounds."""
    return statistics.median(a / b for a, b in zip(first, second, strict=True))


def peak_memory(process: subprocess.Popen[Any]) -> int:
    """Wait for a process, and return the largest anonymous memory of it or of a child, in bytes, without mapped files.

    Raises:
        AssertionError: It failed.
    """
    watched, peak = psutil.Process(process.pid), 0
    while process.poll() is None:
        try:
            family = [watched, *watched.children(recursive=True)]
        except psutil.NoSuchProcess:
            break
        for one in family:
            try:
                peak = max(peak, _anonymous(one.pid))
            except (FileNotFoundError, KeyError, ProcessLookupError):
                continue  # it has just ended
        time.sleep(0.05)
    assert process.wait() == 0
    return peak


def _anonymous(pid: int) -> int:
    with Path(f"/proc/{pid}/status").open(encoding="utf-8") as file:
        lines = dict(line.split(":", 1) for line in file)
    return int(lines["RssAnon"].split()[0]) * 1024


@pytest.fixture(autouse=True)
def _one_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLIPBENCH_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))

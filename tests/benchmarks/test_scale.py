"""Preparing and evaluating a split as large as OC20's: structures per second, memory, and cost per structure.

The files are LMDB files of pickled samples of 73 atoms, 50,000 each, and the model is the one that does nothing. It
takes about half an hour and 20 GB of disk space; MLIPBENCH_BENCHMARK_STRUCTURES makes it smaller.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import ATOMS, GIB, N_STRUCTURES, peak_memory

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "datasets"))  # the makers of pickles
lmdb = pytest.importorskip("lmdb")

from pickle_helpers import data, done, whole  # noqa: E402

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(14_400)]

FEW = 10_000
FILE = 50_000
FRAMES = 40  # of a relaxation
SID, FID = 1_111_111_111, 1_222_222_222  # what stands in a sample for its names
ENTRY = {
    "name": "large",
    "title": "Synthetic",
    "licence": "MIT",
    "citation": "none",
    "level_of_theory": "none",
    "energy_reference": "adsorption",
    "units": {"energy": "eV", "forces": "eV/A", "length": "A"},
    "keys": {"energy": "y", "forces": "force", "id": ["sid", "fid"], "cluster": "sid"},
    "pbc": [True, True, True],
    "free_atoms_only": True,
    "cluster": "key",
    "root": "data",
    "splits": {"all": {"files": ["*.lmdb"]}},
}
CARD = {
    "name": "null",
    "adapter": "mlipbench.testing.toys:NullAdapter",
    "environment": "base",
    "capabilities": {
        "forces": "conservative",
        "elements": "1-94",
        "energy_reference": "adsorption",
        "level_of_theory": "none",
    },
    "batch": {"atoms": 40_000},
}
SUITE = {
    "suite": "large",
    "version": 1,
    "models": ["null.yaml"],
    "datasets": {"large": {"entry": "large.yaml", "splits": ["all"]}},
    "tasks": {"s2ef": {"metrics": ["energy_mae", "forces_mae", "energy_forces_within_threshold"]}},
}


def template(rng: np.random.Generator) -> list[bytes]:
    """Return a sample cut at its sid and fid."""
    fields = {
        "pos": rng.uniform(0, 12, (ATOMS, 3)).astype(np.float32),
        "cell": np.diag([12.0, 12.0, 30.0]).astype(np.float32)[None],
        "atomic_numbers": rng.integers(1, 80, ATOMS).astype(np.float32),
        "natoms": ATOMS,
        "tags": rng.integers(0, 3, ATOMS),
        "fixed": rng.integers(0, 2, ATOMS).astype(np.float32),
        "y": float(rng.normal()),
        "force": rng.normal(size=(ATOMS, 3)).astype(np.float32),
        "sid": SID,
        "fid": FID,
    }
    head, rest = done(data(fields)).split(whole(SID))
    return [head, *rest.split(whole(FID))]


def make(folder: Path, n: int) -> None:
    """Write samples that differ, but for their names, only within a few hundred templates."""
    folder.mkdir()
    templates = [template(np.random.default_rng(seed)) for seed in range(256)]
    for start in range(0, n, FILE):
        with (
            lmdb.open(str(folder / f"{start:09d}.lmdb"), map_size=1 << 34, subdir=False, lock=False) as environment,
            environment.begin(write=True) as transaction,
        ):
            for place, number in enumerate(range(start, min(start + FILE, n))):
                head, middle, tail = templates[number % len(templates)]
                sid, fid = divmod(number, FRAMES)
                transaction.put(str(place).encode(), head + whole(sid) + middle + whole(fid) + tail)


class Place:
    """A folder with data and the files that describe them."""

    def __init__(self, folder: Path, n: int) -> None:
        self.folder, self.n, self.peak = folder, n, 0
        folder.mkdir()
        make(folder / "data", n)
        for name, content in (("large", ENTRY), ("null", CARD), ("suite", SUITE)):
            (folder / f"{name}.yaml").write_text(yaml.safe_dump(content))

    def seconds(self, *line: str) -> float:
        """Run a command, watch the memory of its processes, and return how long it took."""
        env = os.environ | {"MLIPBENCH_CACHE": str(self.folder / "cache"), "MLIPBENCH_DATA": str(self.folder / "data")}
        begun = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "mlipbench", *line], cwd=self.folder, env=env, stdout=subprocess.DEVNULL
        )
        self.peak = max(self.peak, peak_memory(process))
        return time.perf_counter() - begun

    def both(self) -> tuple[float, float]:
        """Return the seconds of preparing and of evaluating."""
        prepared = self.seconds("data", "prepare", "large.yaml")
        return prepared, self.seconds("run", "suite.yaml", "--trust", "--display", "none")


def test_a_split_of_any_size_costs_the_same_per_structure(benchmark, tmp_path):
    """Start-up, measured on a few hundred structures, is taken off; the data are deleted between the sizes."""
    per_structure = {}
    start = Place(tmp_path / "start", 200).both()
    for n in (FEW, N_STRUCTURES):
        place = Place(tmp_path / str(n), n)
        seconds = place.both() if n == FEW else benchmark.pedantic(place.both, rounds=1)
        per_structure[n] = [(all_ - fixed) / (n - 200) for all_, fixed in zip(seconds, start, strict=True)]
        shutil.rmtree(place.folder)
        assert place.peak < GIB
    for verb, few, many in zip(("prepare", "evaluate"), per_structure[FEW], per_structure[N_STRUCTURES], strict=True):
        benchmark.extra_info[f"{verb}_structures_per_second"] = 1 / many
        benchmark.extra_info[f"{verb}_cost_of_many_over_few"] = many / few
        assert many < 1.3 * few
    benchmark.extra_info["structures"] = N_STRUCTURES
    benchmark.extra_info["anonymous_mib"] = place.peak / 2**20

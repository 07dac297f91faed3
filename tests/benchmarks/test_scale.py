"""Preparing and evaluating a split as large as OC20's: structures per second, memory, and cost per structure.

The files are LMDB files of pickled samples of 73 atoms, 50,000 each, and the model is the one that does nothing. The
cost of a structure is processor time of all processes together: unlike time on the clock it does not depend on how many
files are converted at once, and little on other work of the machine. It takes about half an hour of two processors and
20 GB of disk space; MLIPBENCH_BENCHMARK_STRUCTURES makes it smaller.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import conftest
import numpy as np
import pytest
import yaml
from conftest import ATOMS, GIB, N_STRUCTURES, peak_memory

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "datasets"))  # the makers of pickles
lmdb = pytest.importorskip("lmdb")

from pickle_helpers import data, done, whole  # noqa: E402

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(14_400)]

START, FEW = 200, 10_000
ROUNDS = 3
FILE = 50_000
FRAMES = 40  # of a relaxation
SID, FID = 1_111_111_111, 1_222_222_222  # what stands in a sample for its names
ENTRY = conftest.ENTRY | {
    "energy_reference": "adsorption",
    "keys": {"energy": "y", "forces": "force", "id": ["sid", "fid"], "cluster": "sid"},
    "pbc": [True, True, True],
    "free_atoms_only": True,
    "cluster": "key",
    "splits": {"all": {"files": ["*.lmdb"]}},
}
CARD = conftest.CARD | {
    "capabilities": conftest.CAPABILITIES | {"energy_reference": "adsorption"},
    "batch": {"atoms": 40_000},
}
SUITE = conftest.SUITE | {
    "tasks": {"s2ef": {"metrics": ["energy_mae", "forces_mae", "energy_forces_within_threshold"]}}
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

    def seconds(self, *line: str) -> tuple[float, float]:
        """Run a command, watch the memory of its processes, and return its seconds on the clock and of processors."""
        env = os.environ | {"MLIPBENCH_CACHE": str(self.folder / "cache"), "MLIPBENCH_DATA": str(self.folder / "data")}
        begun, spent = time.perf_counter(), processor_seconds()
        process = subprocess.Popen(
            [sys.executable, "-m", "mlipbench", *line], cwd=self.folder, env=env, stdout=subprocess.DEVNULL
        )
        self.peak = max(self.peak, peak_memory(process))
        return time.perf_counter() - begun, processor_seconds() - spent

    def both(self) -> np.ndarray:
        """Return the seconds of preparing and of evaluating, shape (2, 2), as of `seconds`."""
        prepared = self.seconds("data", "prepare", "large.yaml")
        return np.array([prepared, self.seconds("run", "suite.yaml", "--trust", "--display", "none")])


def processor_seconds() -> float:
    """Return the processor time of all children that have ended, and of theirs."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def test_a_split_of_any_size_costs_the_same_per_structure(benchmark, tmp_path):
    """Start-up, measured on a few hundred structures, is taken off; the data are deleted between the sizes."""

    def measured(n):
        place = Place(tmp_path / str(n), n)
        seconds = place.both()
        shutil.rmtree(place.folder)
        assert place.peak < GIB
        return seconds, place.peak

    # small jobs last as long as start-up takes by chance: the least of a few rounds
    start, few = (np.min([measured(n)[0] for _ in range(ROUNDS)], axis=0) for n in (START, FEW))
    many, peak = benchmark.pedantic(measured, (N_STRUCTURES,), rounds=1)
    few, many = (few - start) / (FEW - START), (many - start) / (N_STRUCTURES - START)
    for verb, one, other in zip(("prepare", "evaluate"), few, many, strict=True):
        benchmark.extra_info[f"{verb}_structures_per_second"] = 1 / other[0]
        benchmark.extra_info[f"{verb}_structures_per_processor_second"] = 1 / other[1]
        benchmark.extra_info[f"{verb}_cost_of_many_over_few"] = other[1] / one[1]
    benchmark.extra_info["structures"] = N_STRUCTURES
    benchmark.extra_info["anonymous_mib"] = peak / 2**20
    assert (many[:, 1] < 1.3 * few[:, 1]).all()

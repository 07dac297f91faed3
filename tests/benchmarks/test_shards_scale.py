"""Planning, following, joining and scoring a split of a million structures in ten thousand shards.

The shards are written without a model, three atoms a structure; what is measured is the harness alone: time on the
clock and anonymous memory of the processes. MLIPBENCH_BENCHMARK_STRUCTURES makes it smaller, at 100 a shard.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import conftest
import numpy as np
import pytest
import yaml
from conftest import GIB, N_STRUCTURES, peak_memory

from mlipbench.datasets.prepare import DataLocation
from mlipbench.plan import Selection, build_plan
from mlipbench.plan.shards import cut_shards
from mlipbench.runner.record import first_manifest
from mlipbench.runner.session import new_directory
from mlipbench.store.predictions import PredictionBlock, SplitStore
from mlipbench.store.records import ShardRecord
from mlipbench.store.timings import write_timings
from mlipbench.suite import load_suite
from mlipbench.version import code_version

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(7200)]

ATOMS, PER_SHARD = 3, 100
SHARDS = N_STRUCTURES // PER_SHARD
ENTRY = conftest.ENTRY | {
    "energy_reference": "total",
    "keys": {"energy": "E", "forces": "F", "positions": "R", "numbers": "z"},
    "pbc": [False, False, False],
    "formula": "H2O",
    "cluster": "structure",
    "splits": {"all": {"files": ["large.npz"]}},
}
CARD = conftest.CARD | {
    "capabilities": conftest.CAPABILITIES | {"energy_reference": "total"},
    "batch": {"structures": PER_SHARD},
}
SUITE = conftest.SUITE | {"tasks": {"s2ef": {"metrics": ["energy_mae", "forces_mae"]}}}


def write_files(folder: Path) -> None:
    rng = np.random.default_rng(0)
    shape = (N_STRUCTURES, ATOMS, 3)
    (folder / "data").mkdir()
    arrays = {"R": rng.normal(size=shape), "F": rng.normal(size=shape), "E": rng.normal(size=N_STRUCTURES)}
    np.savez(folder / "data" / "large.npz", z=np.array([8, 1, 1]), **arrays)
    for name, content in (("large", ENTRY), ("null", CARD), ("suite", SUITE)):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content))


def write_shards(folder: Path) -> None:
    """Write what ten thousand processes would have written: predictions of zero, timings and records."""
    location = DataLocation(folder / "data", folder / "cache")
    plan = build_plan(load_suite(str(folder / "suite.yaml")), Selection(trust=True, threads=1), location)
    (run,) = plan.runs
    (split,) = run.splits
    directory = new_directory(folder / "results" / "runs" / "large" / "null", run)
    directory.write_manifest(first_manifest(plan, run, directory.path.name, "2020-01-01T00:00:00+00:00", (), SHARDS))
    data = plan.datasets["large"].splits["all"]
    state, energy = np.zeros(PER_SHARD, dtype=np.uint8), np.zeros(PER_SHARD)
    forces, offsets = np.zeros((PER_SHARD * ATOMS, 3), dtype=np.float32), np.arange(PER_SHARD + 1) * ATOMS
    counts = data.counts
    shards = cut_shards(run, split, SHARDS)
    assert len(shards) == SHARDS
    for shard in shards:
        path = directory.predictions(*split.key) / f"{shard.name}.parquet"
        store = SplitStore(path, counts, split.bounds, split.task, shard.batches)
        store.commit(shard.batches[0], PredictionBlock(offsets, {"energy": energy, "forces": forces}, state, {}), ())
        store.finish(data.names)
        rows = [
            {"task": "s2ef", "dataset": "large", "split": "all", "batch": shard.batches[0], "n_structures": PER_SHARD}
        ]
        write_timings(directory.path / "timings" / f"{'.'.join([*split.key, shard.name])}.parquet", rows)
        record = ShardRecord(
            plan_sha256=run.sha256, code_version=code_version(), start=shard.start, stop=shard.stop,
            n_predicted=PER_SHARD, n_failed=0, n_not_applicable=0, packages={"python": "3"}, seconds=1.0,
        )  # fmt: skip
        directory.write_shard_record(*split.key, shard.name, record)


def test_ten_thousand_shards_are_planned_followed_and_joined_in_little_memory(benchmark, tmp_path):
    write_files(tmp_path)
    env = os.environ | {
        "MLIPBENCH_CACHE": str(tmp_path / "cache"), "MLIPBENCH_DATA": str(tmp_path / "data"), "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    peaks: dict[str, int] = {}

    def measured(name: str, *line: str) -> None:
        begun = time.perf_counter()
        command = [sys.executable, "-m", "mlipbench", *line]
        child = subprocess.Popen(command, cwd=tmp_path, env=env, stdout=subprocess.DEVNULL)
        peaks[name] = peak_memory(child)
        benchmark.extra_info[f"{name}_seconds"] = time.perf_counter() - begun
        benchmark.extra_info[f"{name}_anonymous_mib"] = peaks[name] / 2**20

    measured("prepare", "data", "prepare", "large.yaml")
    write_shards(tmp_path)
    (run,) = (tmp_path / "results" / "runs" / "large" / "null").iterdir()
    measured("plan", "plan", "suite.yaml", "--trust", "--shards", str(SHARDS))
    measured("status", "status", "large")
    benchmark.pedantic(measured, ("join", "run", "suite.yaml", "--trust", "--display", "none"), rounds=1)
    measured("score", "score", str(run))
    benchmark.extra_info |= {"structures": N_STRUCTURES, "shards": SHARDS}
    assert max(peaks.values()) < GIB
